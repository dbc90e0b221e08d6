"""Avro values: any schema and value that Avro has, written by fastavro, read back in their JSON form."""

from __future__ import annotations

import base64
import io
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.streaming.formats.avro_values import read_avro
from platform_assets.streaming.formats.plain_values import write_json
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from platform_assets.streaming.formats.schema_changes import find_changed_meanings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """A type, a value as fastavro writes it without knowing the logical type, and the JSON that stands for it."""

    schema: Any
    written: Any
    json: Any


def _moment(unit: str, zone: str) -> st.SearchStrategy[Case]:
    per_second = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}[unit]
    logical = f"timestamp-{unit}" if zone else f"local-timestamp-{unit}"

    def build(seconds: int, rest: int) -> Case:
        digits = {"millis": 3, "micros": 6, "nanos": 9}[unit]
        text = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()  # noqa: DTZ001 a clock on a wall
        fraction = f"{rest:0{digits}d}"
        shown = f".{fraction}" if unit == "nanos" else f".{fraction:0<6}" if rest else ""
        return Case({"type": "long", "logicalType": logical}, seconds * per_second + rest, f"{text}{shown}{zone}")

    # Nanoseconds in 64 bits reach from 1677 to 2262.
    first, last = (-9_223_372_036, 9_223_372_035) if unit == "nanos" else (-62_135_596_800, 253_402_300_799)
    return st.builds(build, st.integers(first, last), st.integers(0, per_second - 1))


def _decimal(unscaled: int, scale: int, is_fixed: bool, name: str) -> Case:
    digits = max(len(str(abs(unscaled))), scale, 1)
    schema: dict[str, Any] = {"type": "bytes", "logicalType": "decimal", "precision": digits, "scale": scale}
    size = (unscaled.bit_length() + 8) // 8
    if is_fixed:
        size = ((10**digits).bit_length() + 8) // 8
        schema |= {"type": "fixed", "name": name, "size": size}
    text = f"{abs(unscaled):0{scale + 1}d}"
    shown = text if not scale else f"{text[:-scale]}.{text[-scale:]}"
    return Case(schema, unscaled.to_bytes(size, "big", signed=True), Exact(f"{'-' if unscaled < 0 else ''}{shown}"))


class Exact(str):
    """A number as it must be written."""


def _named(build: Any) -> st.SearchStrategy[Case]:
    return st.uuids().map(lambda found: f"n{found.hex}").flatmap(build)


def _duration(parts: tuple[int, int, int], name: str) -> Case:
    months, days, millis = parts
    written = b"".join(part.to_bytes(4, "little") for part in parts)
    schema = {"type": "fixed", "name": name, "size": 12, "logicalType": "duration"}
    return Case(schema, written, f"P{months}M{days}DT{Decimal(millis) / 1000:.3f}S")


_longs = st.integers(-(2**63), 2**63 - 1)
_seconds = st.integers(0, 86_399)
_leaves = st.one_of(
    st.just(Case("null", None, None)),
    st.booleans().map(lambda v: Case("boolean", v, v)),
    st.integers(-(2**31), 2**31 - 1).map(lambda v: Case("int", v, v)),
    _longs.map(lambda v: Case("long", v, v)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda v: Case("double", v, v)),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda v: Case("float", v, v)),
    st.text(st.characters(exclude_categories=["Cs"])).map(lambda v: Case("string", v, v)),
    st.binary().map(lambda v: Case("bytes", v, base64.b64encode(v).decode())),
    _named(lambda name: st.binary(min_size=3, max_size=3).map(
        lambda v: Case({"type": "fixed", "name": name, "size": 3}, v, base64.b64encode(v).decode()))),
    _named(lambda name: st.sampled_from("ABC").map(
        lambda v: Case({"type": "enum", "name": name, "symbols": ["A", "B", "C"]}, v, v))),
    st.dates().map(lambda v: Case({"type": "int", "logicalType": "date"}, (v - date(1970, 1, 1)).days, str(v))),
    st.uuids().map(lambda v: Case({"type": "string", "logicalType": "uuid"}, str(v), str(v))),
    _named(lambda name: st.uuids().map(
        lambda v: Case({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"}, v.bytes, str(v)))),
    _named(lambda name: st.tuples(*[st.integers(0, 2**32 - 1)] * 3).map(lambda parts: _duration(parts, name))),
    st.builds(lambda s, r: Case({"type": "int", "logicalType": "time-millis"}, s * 1000 + r,
                                f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" + (f".{r:03d}" if r else "")),
              _seconds, st.integers(0, 999)),
    st.builds(lambda s, r: Case({"type": "long", "logicalType": "time-micros"}, s * 10**6 + r,
                                f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" + (f".{r:06d}" if r else "")),
              _seconds, st.integers(0, 999_999)),
    *(_moment(unit, zone) for unit in ("millis", "micros", "nanos") for zone in ("Z", "")),
    _named(lambda name: st.builds(_decimal, st.integers(-(10**38), 10**38), st.integers(0, 38), st.booleans(),
                                  st.just(name))),
)  # fmt: skip


def _array(items: list[Case], of: Case) -> Case:
    same = [Case(of.schema, of.written, of.json) for _ in items]
    return Case({"type": "array", "items": of.schema}, [each.written for each in same], [each.json for each in same])


def _map(keys: list[str], of: Case) -> Case:
    return Case({"type": "map", "values": of.schema}, dict.fromkeys(keys, of.written), dict.fromkeys(keys, of.json))


def _record(members: list[Case], name: str) -> Case:
    fields = [{"name": f"f{number}", "type": each.schema} for number, each in enumerate(members)]
    return Case(
        {"type": "record", "name": name, "fields": fields},
        {f"f{number}": each.written for number, each in enumerate(members)},
        {f"f{number}": each.json for number, each in enumerate(members)},
    )


def _optional(of: Case, is_null: bool, is_first: bool) -> Case:
    branches = ["null", of.schema] if is_first else [of.schema, "null"]
    return Case(branches, None if is_null else of.written, None if is_null else of.json)


def _extend(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    no_union = inner.filter(lambda of: not isinstance(of.schema, list) and of.schema != "null")
    return st.one_of(
        st.builds(_array, st.lists(inner, max_size=3), inner.filter(lambda of: not _takes_nothing(of.schema))),
        st.builds(_map, st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=3), inner),
        _named(lambda name: st.lists(inner, max_size=4).map(lambda members: _record(members, name))),
        st.builds(_optional, no_union, st.booleans(), st.booleans()),
    )


def _takes_nothing(schema: Any) -> bool:
    if isinstance(schema, dict) and schema["type"] == "record":
        return all(_takes_nothing(field["type"]) for field in schema["fields"])
    return bool(schema == "null")


_records = st.builds(
    _record, st.lists(st.recursive(_leaves, _extend, max_leaves=6), min_size=1, max_size=8), st.just("a.b.Event")
)


def _bare(schema: Any) -> Any:
    """The schema without logical types, by which fastavro writes the value as it is."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _bare(of) if key in ("type", "items", "values", "fields") else of
            for key, of in schema.items() if key not in ("logicalType", "precision", "scale")}  # fmt: skip


def _encode(case: Case) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(_bare(case.schema)), case.written, strict=True)
    return out.getvalue()


def _dump(expected: Any) -> str:
    """JSON with exact decimals, written without the product's encoder."""
    match expected:
        case Exact():
            return str.__str__(expected)
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_dump(each)}" for key, each in expected.items()) + "}"
        case list():
            return "[" + ",".join(map(_dump, expected)) + "]"
    return json.dumps(expected)


def _read_exactly(text: str) -> Any:
    def keep(number: str) -> Any:
        return ("number", Decimal(number))

    return json.loads(text, parse_float=keep, parse_int=keep)


def _same(one: Any, other: Any) -> bool:
    """Numbers are compared by value: a double has several spellings."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return bool(one[1] == other[1])
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _open(schema: Any, *references: NamedSchema) -> Any:
    return read_avro(RegisteredSchema(1, "avro", json.dumps(schema), references))


@given(_records)
def test_any_value_of_any_schema_is_read_in_its_json_form(case: Case) -> None:
    reader, value = _open(case.schema), _encode(case)
    found = write_json(reader.read(value)).decode()
    assert _same(_read_exactly(found), _read_exactly(_dump(case.json))), (found, _dump(case.json))
    assert reader.read_many is not None
    assert reader.read_many([value] * 3) == [reader.read(value)] * 3


@given(_records, st.data())
def test_no_bytes_do_more_than_to_be_refused(case: Case, data: st.DataObject) -> None:
    reader, value = _open(case.schema), _encode(case)
    cut = data.draw(st.integers(0, len(value)))
    hostile = data.draw(
        st.one_of(st.just(value[:cut]), st.binary(), st.binary(min_size=1).map(lambda tail: value + tail),
                  st.binary().map(lambda middle: value[:cut] + middle + value[cut + 1 :]))
    )  # fmt: skip
    try:
        found = reader.read(hostile)
    except UndecodableError:
        found = None
    else:
        write_json(found)
    together = reader.read_many([value, hostile, value])
    assert together is None if found is None else together in (None, [reader.read(value), found, reader.read(value)])


@given(_records, st.binary(min_size=1, max_size=20))
def test_bytes_that_are_left_over_are_refused(case: Case, tail: bytes) -> None:
    with pytest.raises(UndecodableError, match="left over"):
        _open(case.schema).read(_encode(case) + tail)


def _event(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Event", "fields": [{"name": name, "type": of} for name, of in types.items()]}


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (_event(kind={"type": "enum", "name": "K", "symbols": ["A", "B"]}), b"\x01", "has no number -1"),
        (_event(kind={"type": "enum", "name": "K", "symbols": ["A", "B"]}), b"\x04", "has no number 2"),
        (_event(note=["null", "string"]), b"\x01\x02a", "no such branch"),
        (_event(price="double"), b"\x00\x00\x00\x00\x00\x00\xf8\x7f", "nan"),
        (_event(price="float"), b"\x00\x00\x80\x7f", "inf"),
        (_event(at={"type": "long", "logicalType": "timestamp-millis"}), b"\xfe" + b"\xff" * 8 + b"\x01", ""),
        (_event(day={"type": "int", "logicalType": "date"}), b"\xfe\xff\xff\xff\x0f", ""),
        (_event(time={"type": "int", "logicalType": "time-millis"}), b"\x01", "no time of day"),
        (_event(count="int"), b"\x80\x80\x80\x80\x20", "32 bits"),
        (_event(many={"type": "array", "items": "int"}), b"\x02\x80\x80\x80\x80\x20\x00", "32 bits"),
        (_event(sum={"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1}), b"\x04\x01\x00", "2 dig"),
        (_event(text="string"), b"\x04\xff\xff", "utf-8"),
        (_event(text="string"), b"\xfe" + b"\xff" * 8 + b"\x01", "ends too early"),
        (_event(many={"type": "array", "items": "int"}), b"\xfe" + b"\xff" * 8 + b"\x01\x02", "ends too early"),
        (_event(id={"type": "string", "logicalType": "uuid"}), b"", "ends too early"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_named(schema: Any, value: bytes, said: str) -> None:
    with pytest.raises(UndecodableError, match=f"(?i){said}"):
        _open(schema).read(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ('"string"', "not of a record"),
        ('{"type":"array","items":"int"}', "not of a record"),
        ('{"type":"record","name":"A","fields":[{"name":"b","type":"B"}]}', "B is not defined"),
        ('{"type":"record","name":"A","fields":[{"name":"b","type":"int"},{"name":"b","type":"int"}]}', "one name"),
        (
            '{"type":"record","name":"A","fields":[{"name":"b","type":{"type":"array","items":"null"}}]}',
            "takes 0 bytes",
        ),
        ('{"type":"record","name":"A","fields":[{"name":"b","type":[]}]}', "no branches"),
        ('{"type":"record","name":"A"}', "no list of fields"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_schemas_that_cannot_be_used_are_named(text: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        read_avro(RegisteredSchema(1, "avro", text))


def _items(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _of_nothing(parts: int) -> dict[str, Any]:
    """A record of one byte and many fields that take none."""
    fields = [{"name": f"n{number}", "type": "null"} for number in range(parts)]
    return {"type": "record", "name": "R", "fields": [{"name": "k", "type": "boolean"}, *fields]}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (["null", "Event"], "holds itself"),
        (_items("null"), "takes 0 bytes"),
        (_items({"type": "fixed", "name": "F", "size": 0}), "takes 0 bytes"),
        (_items(_of_nothing(1000)), "takes 1 bytes"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 5000}, "5000 digits"),
    ],
)
def test_a_schema_whose_values_have_no_bound_is_refused(of: Any, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        _open(_event(f=of))


def test_deep_and_shared_types_are_read_or_refused_at_once() -> None:
    deep: Any = "int"
    for _ in range(900):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="too deeply"):
        _open(_event(deep=deep))
    of: Any = "boolean"
    for level in range(40):
        fields = [{"name": "a", "type": of}, {"name": "b", "type": "int"}]
        of = {"type": "record", "name": f"R{level}", "fields": fields}
    shared = {"type": "record", "name": "S", "fields": [{"name": "x", "type": of}, {"name": "y", "type": "R39"}]}
    assert find_changed_meanings(_open(shared).shape, _open(shared).shape) == []


def test_decimals_of_many_bytes_are_judged_by_their_digits() -> None:
    schema = _event(sum={"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2})
    for number in (0, 1, -1, 9999, -9999):
        padded = number.to_bytes(1000, "big", signed=True)
        assert _open(schema).read(_encode(Case(schema, {"sum": padded}, None)))["sum"] == Decimal(number) / 100
    with pytest.raises(UndecodableError, match="more than 4 digits"):
        _open(schema).read(_encode(Case(schema, {"sum": b"\x7f" * 1_000_000}, None)))


def test_names_need_no_namespace_and_may_be_those_of_ours() -> None:
    inner = {
        "type": "record",
        "name": "row",
        "fields": [{"name": "mark", "type": {"type": "fixed", "name": "mark", "size": 1}}],
    }
    reader = _open(_event(a=inner, b="row"))
    assert reader.read(b"xy") == {"a": {"mark": b"x"}, "b": {"mark": b"y"}}
    assert reader.read_many is not None and reader.read_many([b"xy", b"ab"]) is not None


def test_references_are_read_by_their_names() -> None:
    of_id = {"type": "fixed", "name": "I", "size": 2}
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": [
        {"name": "cents", "type": "long"}, {"name": "id", "type": of_id},
    ]}  # fmt: skip
    schema = {"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "paid", "type": "Money"}, {"name": "id", "type": ["null", "shop.I"]},
    ]}  # fmt: skip
    assert _open(schema, NamedSchema("shop.Money", json.dumps(money))).read(b"\x0aab\x02cd") == {
        "paid": {"cents": 5, "id": b"ab"},
        "id": b"cd",
    }


def test_a_reference_without_a_namespace_is_read() -> None:
    """The rows of many values are a record of the reader's own: its namespace must not become that of the names."""
    place = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}
    schema = {"type": "record", "name": "Order", "fields": [{"name": "where", "type": "Place"}]}
    reader = _open(schema, NamedSchema("Place", json.dumps(place)))
    assert reader.read(b"\x02a") == {"where": {"city": "a"}}
    assert reader.read_many([b"\x02a", b"\x02b"]) == [{"where": {"city": "a"}}, {"where": {"city": "b"}}]


def test_a_changed_logical_type_does_not_change_what_was_written() -> None:
    """Avro calls both changes compatible; Java's reader, by the reader's schema, makes other values of the old ones."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    for unit, per_second in (("millis", 1_000), ("micros", 1_000_000)):
        schema = _event(at={"type": "long", "logicalType": f"timestamp-{unit}"})
        case = Case(schema, {"at": (moment - _EPOCH) // timedelta(microseconds=1) * per_second // 10**6}, None)
        assert _open(schema).read(_encode(case)) == {"at": moment}
    for scale, unscaled in ((2, 1234), (4, 123_400)):
        schema = _event(amount={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale})
        value = unscaled.to_bytes(4, "big", signed=True)
        assert _open(schema).read(b"\x08" + value)["amount"] == Decimal("12.34")


@settings(max_examples=20)
@given(st.lists(st.uuids(), min_size=2, max_size=50))
def test_a_value_that_takes_bytes_of_the_next_one_is_found(ids: list[uuid.UUID]) -> None:
    reader = _open(_event(id="string"))
    values = [_encode(Case(_event(id="string"), {"id": str(each)}, None)) for each in ids]
    assert reader.read_many is not None
    assert reader.read_many(values) == [{"id": str(each)} for each in ids]
    shifted = [values[0][:-1], values[0][-1:] + values[1], *values[2:]]
    assert reader.read_many(shifted) is None
