"""Topics whose values schemas of a registry wrote: judged as JSON is, and what cannot be opened has a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import fastavro
import msgspec
import pyarrow as pa
import pytest
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from platform_assets.errors import RegistryUnavailableError, SettingError, UnknownSchemaError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.plain_values import write_json
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource, SeenSchemas
from platform_assets.streaming.formats.shapes import Member, Shape, union_of
from platform_assets.streaming.ingest.opened_values import MOST_UNKNOWN
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import EventTime, Record, RegistryValues, Topic, digits, epoch

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROS = int(ARRIVAL.timestamp()) * 1_000_000


class Address(Record):
    city: str
    zip: str | None = None


class Order(Record):
    order_id: str
    at: datetime
    customer: str
    amount: Annotated[Decimal, digits(12, 2)]
    kind: Literal["sale", "refund"]
    weight: float
    lines: list[Address] = []
    address: Address | None = None
    packed_at: Annotated[int | None, epoch("ms")] = None
    day: date | None = None
    note: Annotated[str, Meta(pattern="^[a-z]*$")] | None = None
    count: Annotated[int, Meta(ge=0)] = 0


def build_topic(values: Any, record: Any = Order) -> Topic:
    return Topic(
        name="orders", description="Orders.", kafka_topic="orders", record=record, event_time=EventTime("at"),
        event_id=("order_id",), subject="customer", event_type="kind", values=values,
    )  # fmt: skip


TOPIC, AS_JSON = build_topic(RegistryValues()), build_topic(Topic.__dataclass_fields__["values"].default)
_ADDRESS = {"type": "record", "name": "Address", "fields": [
    {"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "string"]},
]}  # fmt: skip
_KIND = {"type": "enum", "name": "Kind", "symbols": ["sale", "refund", "gift"]}
_TYPES: Mapping[str, Any] = {
    "order_id": "string", "at": {"type": "long", "logicalType": "timestamp-millis"}, "customer": "string",
    "amount": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}, "kind": _KIND,
    "weight": "double", "lines": {"type": "array", "items": _ADDRESS}, "address": ["null", "Address"],
    "packed_at": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
    "day": ["null", {"type": "int", "logicalType": "date"}], "note": ["null", "string"], "count": "int",
}  # fmt: skip


def schema_of(**types: Any) -> str:
    """The schema of the order, with other types for some fields; None leaves one out."""
    fields = [{"name": name, "type": of} for name, of in {**_TYPES, **types}.items() if of is not None]
    return json.dumps({"type": "record", "name": "Order", "fields": fields})


@dataclass(frozen=True)
class Schemas:
    """A registry's answers. Ids in `silent` get none."""

    texts: tuple[str, ...]
    silent: frozenset[int] = frozenset()

    def __call__(self, schema_id: int) -> RegisteredSchema:
        if schema_id in self.silent:
            raise RegistryUnavailableError("The registry does not answer.")
        if not 0 <= schema_id < len(self.texts):
            raise UnknownSchemaError(f"The registry has no schema {schema_id}.")
        return RegisteredSchema(schema_id, "avro", self.texts[schema_id])

    def write(self, schema_id: int, document: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(self.texts[schema_id])), document)
        return frame(schema_id, out.getvalue())


def order(number: int = 0, **other: Any) -> dict[str, Any]:
    return {
        "order_id": f"order-{number}", "at": ARRIVAL, "customer": f"c-{number}", "amount": Decimal("12.30"),
        "kind": "sale", "weight": 1.5, "lines": [], "address": None, "packed_at": None, "day": None, "note": None,
        "count": number, **other,
    }  # fmt: skip


def parse(
    values: Sequence[bytes | None], source: SchemaSource | None, topic: Topic = TOPIC, max_bytes: int = 10_000
) -> pa.RecordBatch:
    count = len(values)
    batch = pa.record_batch(
        {
            "key": pa.nulls(count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([ARRIVAL] * count, pa.timestamp("us", tz="UTC")),
        }
    )
    return parse_batch(batch, topic, MICROS, max_bytes, EventRules(), source)


def reasons(rows: pa.RecordBatch) -> list[tuple[str | None, str | None]]:
    return [(row["_reason"], row["_detail"]) for row in rows.to_pylist()]


_addresses = st.fixed_dictionaries({"city": st.text(max_size=3), "zip": st.none() | st.text(max_size=3)})
_moments = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
)
_orders = st.builds(
    order,
    number=st.integers(-5, 1000),
    order_id=st.text(max_size=3) | st.just("null"),
    at=st.one_of(st.just(ARRIVAL), _moments),
    customer=st.text(max_size=3),
    amount=st.decimals(-(10**11), 10**11, places=2),
    kind=st.sampled_from(["sale", "refund", "gift"]),
    weight=st.floats(allow_nan=False, allow_infinity=False),
    lines=st.lists(_addresses, max_size=2),
    address=st.none() | _addresses,
    packed_at=st.none() | _moments,
    day=st.none() | st.dates(),
    note=st.none() | st.text(max_size=4),
)


@given(st.lists(_orders, min_size=1, max_size=6))
def test_verdicts_and_rows_are_those_of_the_same_record_in_json(orders: list[dict[str, Any]]) -> None:
    schemas = Schemas((schema_of(),))
    values = [schemas.write(0, each) for each in orders]
    reader = compile_schema(schemas(0)).find(())
    texts = []
    for value in values:
        plain = reader.read(value[5:])
        if plain["packed_at"] is not None:  # the contract has it as a number, and JSON has it as one too
            plain["packed_at"] = (plain["packed_at"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        texts.append(write_json(plain))
    found, wanted = parse(values, SchemaSource(schemas)), parse(texts, None, AS_JSON)
    kept = [name for name in wanted.schema.names if name != "_value"]
    assert found.select(kept).equals(wanted.select(kept))


def test_what_no_field_takes_is_kept_whatever_its_depth() -> None:
    address = {**_ADDRESS, "fields": [*_ADDRESS["fields"], {"name": "floor", "type": "int"}]}
    schemas = Schemas((schema_of(lines=None, address=address, extra=["null", "bytes"]),))
    rows = parse(
        [
            schemas.write(0, order(1, address={"city": "a", "zip": None, "floor": 7}, extra=b"\x01")),
            schemas.write(0, order(2, address={"city": "a", "zip": None, "floor": 8}, extra=None)),
        ],
        SchemaSource(schemas),
    )
    assert reasons(rows) == [(None, None)] * 2
    assert [json.loads(text) for text in rows["unknown_fields"].to_pylist()] == [
        {"extra": "AQ==", "address.floor": 7}, {"extra": None, "address.floor": 8},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ({"amount": "double"}, "amount is a floating-point number, and the contract wants a decimal(12,2)"),
        ({"amount": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4}},
         "amount is a decimal(9,4), and the contract has 2 digits behind the point"),
        ({"at": "long"}, "at is a whole number of 64 bits, and the contract wants a moment"),
        ({"at": {"type": "long", "logicalType": "timestamp-nanos"}},
         "at is a timestamp in ns, which a column cuts to microseconds: keep it as a str"),
        ({"packed_at": {"type": "long", "logicalType": "timestamp-micros"}},
         "packed_at is a timestamp in us, and the contract wants a whole number"),
        ({"packed_at": {"type": "long", "logicalType": "timestamp-nanos"}},
         "packed_at is a timestamp in ns, and the contract wants a whole number"),
        ({"customer": None}, "customer is missing, and the contract has no default for it"),
        ({"customer": "null"}, "customer is always null, and the contract requires it"),
        ({"kind": {"type": "enum", "name": "K", "symbols": ["gift"]}},
         "kind is one of gift, none of which the contract has: refund, sale"),
        ({"lines": None, "address": {"type": "record", "name": "A", "fields": [{"name": "zip", "type": "string"}]}},
         "address is a record, in which city is missing"),
        ({"lines": {"type": "array", "items": "int"}, "address": None},
         "lines is a list whose items are each a whole number of 32 bits, and the contract wants an object"),
    ],
)  # fmt: skip
def test_a_schema_that_the_contract_cannot_read_is_named_with_the_difference(types: Any, said: str) -> None:
    schemas = Schemas((schema_of(**types), schema_of()))
    rows = parse([frame(0, b""), schemas.write(1, order())], SchemaSource(schemas))
    assert reasons(rows) == [("unreadable_schema", f"schema 0: {said}"), (None, None)]
    assert rows["_value"].to_pylist() == [frame(0, b""), None]


@pytest.mark.parametrize(
    ("types", "other"),
    [
        ({"amount": "long"}, {"amount": 12}),
        ({"amount": "string"}, {"amount": "12.30"}),
        ({"at": "string"}, {"at": "2026-03-01T12:00:00Z"}),
        ({"at": {"type": "long", "logicalType": "local-timestamp-micros"}}, {"at": ARRIVAL.replace(tzinfo=None)}),
        ({"weight": "int"}, {"weight": 1}),
        ({"weight": "float"}, {"weight": 0.5}),
        ({"kind": "string"}, {}),
        ({"note": None}, {}),
        ({"customer": ["null", "int", "string"]}, {}),
        ({"packed_at": "long"}, {"packed_at": 1_700_000_000_000}),
    ],
)  # fmt: skip
def test_schemas_that_differ_and_can_be_read(types: Any, other: Any) -> None:
    schemas = Schemas((schema_of(**types),))
    assert reasons(parse([schemas.write(0, order(**other))], SchemaSource(schemas))) == [(None, None)]


def test_several_schemas_in_one_batch_and_what_is_in_no_frame() -> None:
    schemas = Schemas((schema_of(), schema_of(note=None), "{"))
    good = schemas.write(0, order(1))
    values = [
        good, schemas.write(1, order(2)), b"{}", None, good + b"x", good[:-1], frame(2, b"a"), frame(7, b"a"),
        b"\0" * 10_001, b"\1" + good[1:],
    ]  # fmt: skip
    seen = SeenSchemas()
    rows = parse(values, SchemaSource(schemas, seen=seen))
    assert [reason for reason, _ in reasons(rows)] == [
        None, None, "not_framed", "tombstone", "not_decodable", "not_decodable", "unreadable_schema",
        "unknown_schema", "oversized", "not_framed",
    ]  # fmt: skip
    kept = [None, None, *values[2:]]
    assert rows["_value"].to_pylist() == kept
    assert (seen.resolved, seen.unresolved) == ({0, 1}, {7})


def test_a_registry_that_does_not_answer_is_waited_for_or_its_records_are_quarantined() -> None:
    schemas = Schemas((schema_of(), schema_of()), silent=frozenset({1}))
    values = [schemas.write(0, order(1)), frame(1, b"")]
    with pytest.raises(RegistryUnavailableError):
        parse(values, SchemaSource(schemas))
    assert reasons(parse(values, SchemaSource(schemas, quarantines=True))) == [
        (None, None), ("unknown_schema", "schema 1: The registry does not answer."),
    ]  # fmt: skip


def test_a_batch_that_runs_again_has_the_schemas_that_it_had() -> None:
    """The registry gives one more, and one less, than when the batch first ran."""
    schemas = Schemas((schema_of(), schema_of()), silent=frozenset())
    value = schemas.write(1, order(1))
    again = SchemaSource(schemas, unresolved=frozenset({1}))
    assert reasons(parse([value], again))[0][0] == "unknown_schema"
    gone = SchemaSource(Schemas((schema_of(),)), quarantines=True, unresolved=frozenset())
    with pytest.raises(RegistryUnavailableError, match="was there when this batch was first read"):
        parse([value], gone)


def test_without_a_registry_the_setting_is_named() -> None:
    with pytest.raises(SettingError, match="HEADRACE_SCHEMA_REGISTRY_URL"):
        parse([b""], None)


@given(
    st.lists(
        st.binary(max_size=40).map(lambda tail: b"\0\0\0\0\0" + tail) | st.binary(max_size=40), min_size=1, max_size=8
    )
)
def test_no_bytes_end_the_stream(values: list[bytes]) -> None:
    schemas = Schemas((schema_of(),))
    rows = parse(values, SchemaSource(schemas))
    assert len(rows) == len(values)


def test_a_moment_that_its_column_would_cut_is_refused_and_others_are_not() -> None:
    """A Protobuf timestamp says with each value how precise it is."""
    text = """syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Order {
  string order_id = 1; google.protobuf.Timestamp at = 2; string customer = 3; string amount = 4; string kind = 5;
  double weight = 6;
}"""

    def fetch(schema_id: int) -> RegisteredSchema:
        return RegisteredSchema(schema_id, "protobuf", text)

    def write(nanos: int) -> bytes:
        seconds = int(ARRIVAL.timestamp())
        at = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
        texts = b"".join(bytes([number << 3 | 2, len(each)]) + each for number, each in (
            (1, b"o%d" % nanos), (2, at), (3, b"c"), (4, b"1.50"), (5, b"sale")))  # fmt: skip
        return frame(1, b"\0" + texts)

    rows = parse([write(0), write(1_000), write(1_001)], SchemaSource(fetch))
    refused = "no value of schema 1: at has parts of a microsecond, which its column would cut: "
    assert reasons(rows) == [(None, None), (None, None), ("not_decodable", f"{refused}2026-03-01T12:00:00.000001001Z")]
    assert rows["event_time"].to_pylist()[:2] == [ARRIVAL, ARRIVAL + timedelta(microseconds=1)]


def _union_of_records(first: Any, second: Any) -> str:
    """Two types of records, A and B, that differ in what `packed_at` is. What A defines B has by name."""
    fields = {**_TYPES, "packed_at": first}
    names = {"kind": "Kind", "lines": {"type": "array", "items": "Address"}, "packed_at": second}
    types = [
        {"type": "record", "name": name, "fields": [{"name": key, "type": of} for key, of in each.items()]}
        for name, each in (("A", fields), ("B", {**fields, **names}))
    ]
    return json.dumps(types)


def test_a_moment_that_is_counted_is_never_cut() -> None:
    millis, micros = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros"))
    local = {"type": "long", "logicalType": "local-timestamp-millis"}
    text = schema_of(packed_at=micros)
    for schema, moment, reason in (
        (_union_of_records(millis, micros), ARRIVAL + timedelta(microseconds=1), "not_decodable"),
        (_union_of_records(millis, micros), ARRIVAL + timedelta(milliseconds=1), None),
        (_union_of_records(millis, local), ARRIVAL.replace(tzinfo=None), "wrong_type"),
    ):
        schemas = Schemas((schema, text))
        value = schemas.write(0, ("B", order(packed_at=moment)))
        assert reasons(parse([value], SchemaSource(schemas)))[0][0] == reason


def test_a_long_decimal_and_a_deep_document_are_refused_at_once() -> None:
    schemas = Schemas((schema_of(),))
    body = b"\x02a" + b"\0" + b"\x02c"  # order_id, at, customer
    huge = b"\x7f" * 3_000_000
    value = frame(0, body + _long(len(huge)) + huge)
    assert reasons(parse([value], SchemaSource(schemas), max_bytes=10_000_000))[0][0] == "not_decodable"
    deep = json.dumps({"order_id": "a", "address": {"city": "x"}})[:-2] + ',"q":' + "[" * 800 + "]" * 800 + "}}"
    assert reasons(parse([deep.encode()], None, AS_JSON))[0][0] in ("not_json", "missing_field")


def _long(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def test_protobuf_timestamps_are_counted_where_the_contract_counts() -> None:
    times = ("at", "packed_at")
    members = [Member(name, Shape("timestamp") if name in times else Shape("any")) for name in _TYPES]
    shape = Shape("record", members=tuple(members))
    assert find_misfits(shape, TOPIC) == []


def test_a_nested_union_is_judged_by_all_its_branches() -> None:
    class Paid(Record):
        order_id: str
        at: datetime
        customer: str
        kind: str
        amount: Annotated[Decimal, digits(12, 2)] = msgspec.field(name="paid.amount")

    topic = build_topic(RegistryValues(), Paid)
    branches = [
        Shape("record", name=name, members=(Member("amount", of),))
        for name, of in (("A", Shape("float")), ("B", Shape("decimal", digits=(9, 2))))
    ]
    members = [Member(name, Shape("any")) for name in ("order_id", "at", "customer", "kind")]
    shape = Shape("record", members=(*members, Member("paid", union_of(*branches))))
    assert find_misfits(shape, topic) == []


def test_a_registry_that_is_away_is_asked_once_a_batch() -> None:
    asked: list[int] = []

    def fetch(schema_id: int) -> RegisteredSchema:
        asked.append(schema_id)
        raise RegistryUnavailableError("The registry does not answer.")

    found = reasons(parse([frame(number, b"") for number in range(20)], SchemaSource(fetch, quarantines=True)))
    assert [reason for reason, _ in found] == ["unknown_schema"] * 20 and len(asked) == 1


def test_random_ids_cost_a_bounded_number_of_requests_and_hide_no_other_schema() -> None:
    schemas, asked = Schemas((schema_of(), schema_of(count="int"))), list[int]()

    def fetch(schema_id: int) -> RegisteredSchema:
        asked.append(schema_id)
        return schemas(schema_id)

    hostile = [frame(1_000 + number, b"x") for number in range(400)]
    values = [*hostile, schemas.write(0, order(1)), schemas.write(0, order(2)), *hostile[:1]]
    seen = SeenSchemas()
    found = reasons(parse(values, SchemaSource(fetch, seen=seen)))
    assert [reason for reason, _ in found] == ["unknown_schema"] * 400 + [None, None, "unknown_schema"]
    assert len(asked) == len(set(asked)) == MOST_UNKNOWN + 1
    said = [detail or "" for _, detail in found if "not asked for" in (detail or "")]
    assert len(said) == 400 - MOST_UNKNOWN and f"{MOST_UNKNOWN} other ids" in said[0]
    assert "has no schema 1000" in (found[0][1] or ""), "that of two records was asked for before those of one"

    # When the batch runs again nothing is asked for that was unknown, and what was known is still found.
    unknown = frozenset(seen.unresolved)
    assert seen.unresolved == {1_000 + number for number in range(400)}
    assert seen.resolved == {0}
    asked.clear()
    again = reasons(parse(values, SchemaSource(fetch, unresolved=unknown)))
    assert [reason for reason, _ in again] == [reason for reason, _ in found] and asked == []

    parse(values, SchemaSource(fetch, asks_for_all=True))
    assert len(asked) == 400


def test_json_is_held_against_its_own_schema_where_the_topic_says_so() -> None:
    class Reading(Record):
        id: str
        at: datetime
        level: float

    text = json.dumps({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["id", "at", "level"],
        "properties": {"id": {"type": "string"}, "at": {"type": "string"},
                       "level": {"type": "number", "maximum": 10}, "note": {"type": "string", "maxLength": 3}},
    })  # fmt: skip
    rows = [{"id": f"r-{n}", "at": ARRIVAL.isoformat(), "level": n, **more}
            for n, more in ((1, {}), (11, {}), (2, {"note": "long"}), (3, {"note": "abc"}))]  # fmt: skip
    values = [frame(5, json.dumps(row).encode()) for row in rows]
    source = SchemaSource(lambda schema_id: RegisteredSchema(schema_id, "json", text))

    def judge(of: RegistryValues) -> list[tuple[str | None, str | None]]:
        topic = Topic(name="readings", description="Readings.", kafka_topic="readings", record=Reading,
                      event_time=EventTime("at"), event_id=("id",), values=of)  # fmt: skip
        return reasons(parse(values, source, topic))

    assert [reason for reason, _ in judge(RegistryValues())] == [None] * 4, "the contract has no such limits"
    found = judge(RegistryValues(validates_json=True))
    assert [reason for reason, _ in found] == [None, "not_decodable", "not_decodable", None]
    assert "no value of schema 5: against its schema: level: 11 is greater than" in (found[1][1] or "")
    assert "against its schema: note:" in (found[2][1] or "")
