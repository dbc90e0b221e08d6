"""Avro schemas with a value each: as Java is given it, and what it means.

A value for Java is JSON by its schema: of a union null or [branch, value]; a text for a logical type; hexadecimal
digits for bytes; a text for a double, so that it may be any.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class AvroCase:
    """A schema and a value. `refused`: why no value of the schema is read. `references`: by name, in their order."""

    name: str
    schema: dict[str, Any]
    given: dict[str, Any]
    means: dict[str, Any] | None
    references: tuple[tuple[str, dict[str, Any]], ...] = ()
    refused: str = ""


def _record(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": of} for key, of in fields.items()]}


def _logical(of: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": of, "logicalType": name, **more}


def _fixed(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


_TEXTS = ["", "a", "\0", "Zürich", "\U0001f6d2", "x" * 200]
_PRIMITIVES = AvroCase(
    "primitives",
    _record("shop.Primitives", yes="boolean", no="boolean", int_least="int", int_most="int", int_small="int",
            long_least="long", long_most="long", float_tenth="float", float_most="float", double_tenth="double",
            double_least="double", double_most="double", zero="double", minus_zero="double", raw="bytes",
            nothing="bytes", none="null", texts={"type": "array", "items": "string"}),
    {"yes": True, "no": False, "int_least": -(2**31), "int_most": 2**31 - 1, "int_small": -1, "long_least": -(2**63),
     "long_most": 2**63 - 1, "float_tenth": "0.1", "float_most": "3.4028234663852886e38", "double_tenth": "0.1",
     "double_least": "4.9e-324", "double_most": "1.7976931348623157e308", "zero": "0.0", "minus_zero": "-0.0",
     "raw": "00ff10", "nothing": "", "none": None, "texts": _TEXTS},
    {"yes": True, "no": False, "int_least": -2147483648, "int_most": 2147483647, "int_small": -1,
     "long_least": -9223372036854775808, "long_most": 9223372036854775807, "float_tenth": 0.10000000149011612,
     "float_most": 3.4028234663852886e38, "double_tenth": 0.1, "double_least": 5e-324,
     "double_most": 1.7976931348623157e308, "zero": 0.0, "minus_zero": -0.0, "raw": b"\x00\xff\x10", "nothing": b"",
     "none": None, "texts": _TEXTS},
)  # fmt: skip
_LOGICAL = AvroCase(
    "logical types",
    _record(
        "shop.Logical",
        first_day=_logical("int", "date"), day=_logical("int", "date"), last_day=_logical("int", "date"),
        time_ms=_logical("int", "time-millis"), time_us=_logical("long", "time-micros"),
        noon=_logical("int", "time-millis"),
        old_ms=_logical("long", "timestamp-millis"), at_ms=_logical("long", "timestamp-millis"),
        at_us=_logical("long", "timestamp-micros"), last_us=_logical("long", "timestamp-micros"),
        at_ns=_logical("long", "timestamp-nanos"),
        wall_ms=_logical("long", "local-timestamp-millis"), wall_us=_logical("long", "local-timestamp-micros"),
        wall_ns=_logical("long", "local-timestamp-nanos"),
        amount=_logical("bytes", "decimal", precision=38, scale=10),
        refund=_logical("bytes", "decimal", precision=9, scale=2),
        nil=_logical("bytes", "decimal", precision=4, scale=2),
        whole=_logical("bytes", "decimal", precision=20),
        price=_fixed("Price", 16, logicalType="decimal", precision=38, scale=2),
        minus=_fixed("Small", 2, logicalType="decimal", precision=4, scale=1),
        id=_logical("string", "uuid"), id_bytes=_fixed("Id", 16, logicalType="uuid"),
        took=_fixed("Took", 12, logicalType="duration"),
        no_logic=_logical("string", "timestamp-micros"), own_logic=_logical("long", "shop-counter"),
    ),
    {"first_day": "0001-01-01", "day": "1969-12-31", "last_day": "9999-12-31", "time_ms": "23:59:59.999",
     "time_us": "00:00:00.000001", "noon": "12:00:00", "old_ms": "1883-11-18T12:03:58.001Z",
     "at_ms": "2026-01-31T23:59:59.123Z", "at_us": "2026-01-31T23:59:59.123456Z",
     "last_us": "9999-12-31T23:59:59.999999Z", "at_ns": 1769903999123456789, "wall_ms": "2026-03-29T02:30:00.500",
     "wall_us": "1969-12-31T23:59:59.999999", "wall_ns": -1, "amount": "-1234567890123456789012345678.0123456789",
     "refund": "-0.01", "nil": "0.00", "whole": "-99999999999999999999", "price": "12.30", "minus": "-999.9",
     "id": "123e4567-e89b-12d3-a456-426614174000", "id_bytes": "123e4567-e89b-12d3-a456-426614174000",
     "took": "010000000200000003e80000", "no_logic": "noon", "own_logic": 7},
    {"first_day": date(1, 1, 1), "day": date(1969, 12, 31), "last_day": date(9999, 12, 31), "time_ms": "23:59:59.999",
     "time_us": "00:00:00.000001", "noon": "12:00:00", "old_ms": datetime(1883, 11, 18, 12, 3, 58, 1000, UTC),
     "at_ms": datetime(2026, 1, 31, 23, 59, 59, 123000, UTC), "at_us": datetime(2026, 1, 31, 23, 59, 59, 123456, UTC),
     "last_us": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), "at_ns": "2026-01-31T23:59:59.123456789Z",
     "wall_ms": datetime(2026, 3, 29, 2, 30, 0, 500000),  # noqa: DTZ001 a time on a wall clock
     "wall_us": datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
     "wall_ns": "1969-12-31T23:59:59.999999999", "amount": Decimal("-1234567890123456789012345678.0123456789"),
     "refund": Decimal("-0.01"), "nil": Decimal("0.00"), "whole": Decimal("-99999999999999999999"),
     "price": Decimal("12.30"), "minus": Decimal("-999.9"), "id": "123e4567-e89b-12d3-a456-426614174000",
     "id_bytes": "123e4567-e89b-12d3-a456-426614174000", "took": "P1M2DT59.395S", "no_logic": "noon", "own_logic": 7},
)  # fmt: skip

_KIND = {"type": "enum", "name": "Kind", "symbols": ["UNKNOWN", "SALE", "REFUND"], "default": "UNKNOWN"}
_EITHER = ["null", "string", "int", "long", "double", "boolean", "bytes", _KIND, _record("A", a="int"),
           _record("B", b=["null", "string"]), {"type": "array", "items": "int"},
           {"type": "map", "values": "A"}, _fixed("Two", 2)]  # fmt: skip
_UNIONS = AvroCase(
    "unions",
    _record("shop.Unions", first=_EITHER, again={"type": "array", "items": ["null", "string", "Kind", "A", "B", "Two"]},
            last=["string", "null"], only=["int"], at=["null", _logical("long", "timestamp-millis")],
            sum=["null", _logical("bytes", "decimal", precision=5, scale=2)]),
    {"first": [11, {"x": {"a": 1}, "": {"a": -1}}],
     "again": [None, [1, "t"], [2, "REFUND"], [3, {"a": 3}], [4, {"b": [1, "b"]}], [4, {"b": None}], [5, "0001"]],
     "last": None, "only": [0, 5], "at": [1, "2026-01-31T00:00:00.001Z"], "sum": [1, "-1.50"]},
    {"first": {"x": {"a": 1}, "": {"a": -1}},
     "again": [None, "t", "REFUND", {"a": 3}, {"b": "b"}, {"b": None}, b"\0\1"],
     "last": None, "only": 5, "at": datetime(2026, 1, 31, 0, 0, 0, 1000, UTC), "sum": Decimal("-1.50")},
)  # fmt: skip
_BRANCHES = [
    {"type": "record", "name": f"Branch{number}", "fields": [{"name": f"f{number}", "type": of}]}
    for number, of in enumerate(["int", "string", "double", {"type": "array", "items": "long"}] * 8)
]
_LARGE_UNION = AvroCase(
    "a union of forty types",
    _record("shop.Large", each={"type": "array", "items": ["null", *_BRANCHES, "int", "string", "bytes", "boolean",
                                                           "double", {"type": "map", "values": "int"}]}),
    {"each": [None, [1, {"f0": 1}], [32, {"f31": [1, 2]}], [31, {"f30": "0.5"}], [2, {"f1": "x"}], [33, 7],
              [38, {"k": 1}]]},
    {"each": [None, {"f0": 1}, {"f31": [1, 2]}, {"f30": 0.5}, {"f1": "x"}, 7, {"k": 1}]},
)  # fmt: skip
_LINE = _record("Line", sku="string", count="int", tags={"type": "map", "values": {"type": "array", "items": "string"}})
_NESTED = AvroCase(
    "nested lists and maps",
    _record("shop.Nested", lines={"type": "array", "items": _LINE}, first="Line",
            none={"type": "array", "items": "Line"},
            deep={"type": "array", "items": {"type": "array", "items": {"type": "map", "values": ["null", "Line"]}}},
            many={"type": "array", "items": "int"}, by_name={"type": "map", "values": "long"}),
    {"lines": [{"sku": f"s{n}", "count": n, "tags": {"t": ["a", "b"] * n, "": []}} for n in range(3)],
     "first": {"sku": "", "count": 0, "tags": {}}, "none": [],
     "deep": [[], [{"a": None, "b": [1, {"sku": "d", "count": 1, "tags": {}}]}, {}]], "many": list(range(-150, 150)),
     "by_name": {f"key {n}": n * 10**15 for n in range(40)}},
    {"lines": [{"sku": f"s{n}", "count": n, "tags": {"t": ["a", "b"] * n, "": []}} for n in range(3)],
     "first": {"sku": "", "count": 0, "tags": {}}, "none": [],
     "deep": [[], [{"a": None, "b": {"sku": "d", "count": 1, "tags": {}}}, {}]], "many": list(range(-150, 150)),
     "by_name": {f"key {n}": n * 10**15 for n in range(40)}},
)  # fmt: skip
_NAMES = AvroCase(
    "names in several namespaces",
    {"type": "record", "name": "Order", "namespace": "shop.v1", "doc": "An order", "aliases": ["Bestellung"],
     "fields": [
        {"name": "money", "type": {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}},
        {"name": "other", "type": {"type": "record", "name": "other.Money", "fields": [
            {"name": "euros", "type": "int"},
            {"name": "inner", "type": {"type": "enum", "name": "Kind", "symbols": ["X"]}}]}},
        {"name": "third", "type": "Money", "default": {"cents": 0}},
        {"name": "fourth", "type": "other.Money"}, {"name": "fifth", "type": "other.Kind", "order": "ignore"},
        {"name": "sixth", "type": {"type": "enum", "name": "Kind", "namespace": "", "symbols": ["Y", "Z"]}},
    ]},
    {"money": {"cents": 1}, "other": {"euros": 2, "inner": "X"}, "third": {"cents": 3},
     "fourth": {"euros": 4, "inner": "X"}, "fifth": "X", "sixth": "Z"},
    {"money": {"cents": 1}, "other": {"euros": 2, "inner": "X"}, "third": {"cents": 3},
     "fourth": {"euros": 4, "inner": "X"}, "fifth": "X", "sixth": "Z"},
)  # fmt: skip
_EMPTY = AvroCase(
    "a record without bytes",
    _record("shop.Empty", none="null", inner=_record("Inner"), nothing=_fixed("Nothing", 0)),
    {"none": None, "inner": {}, "nothing": ""},
    {"none": None, "inner": {}, "nothing": b""},
)
_RECURSIVE = AvroCase(
    "a type that holds itself",
    _record("shop.Node", value="int", next=["null", "shop.Node"]),
    {"value": 1, "next": [1, {"value": 2, "next": None}]},
    None,
    refused="the type shop.Node holds itself",
)
_MONEY = {"type": "record", "name": "Money", "namespace": "shop", "fields": [
    {"name": "sum", "type": _logical("bytes", "decimal", precision=9, scale=2)}, {"name": "currency", "type": "string"},
]}  # fmt: skip
_REFERENCES = AvroCase(
    "references",
    {"type": "record", "name": "Paid", "namespace": "shop", "fields": [
        {"name": "first", "type": "shop.Money"}, {"name": "then", "type": {"type": "array", "items": "shop.Money"}},
    ]},
    {"first": {"sum": "12.34", "currency": "EUR"}, "then": [{"sum": "-0.05", "currency": "CHF"}]},
    {"first": {"sum": Decimal("12.34"), "currency": "EUR"}, "then": [{"sum": Decimal("-0.05"), "currency": "CHF"}]},
    references=(("shop.Money", _MONEY),),
)  # fmt: skip

CASES = (_PRIMITIVES, _LOGICAL, _UNIONS, _LARGE_UNION, _NESTED, _NAMES, _EMPTY, _RECURSIVE, _REFERENCES)
