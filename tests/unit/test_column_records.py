"""Records that are read as columns: the same rows and reasons as one by one, whatever schema, values and bytes."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import fastavro
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from platform_assets.errors import RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.protobuf_files import compile_files
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.ingest import column_records
from platform_assets.streaming.ingest.column_records import read_columns
from platform_assets.streaming.ingest.opened_values import OpenedValues
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.record_types import INT32_MAX
from platform_assets.streaming.topic_spec import EventTime, Record, RegistryValues, Topic
from tests.unit.protobuf_schemas import build_class

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROS = int(ARRIVAL.timestamp()) * 1_000_000
_MAX_BYTES = 2_000


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"

    @classmethod
    def _missing_(cls, value: object) -> Level | None:
        return cls.HIGH if value == "HIGH" else None


def _build_record(time: Any) -> Any:
    """A record whose time is of this type."""
    optional: dict[str, Any] = {
        "level": Level, "note": Annotated[str, Meta(pattern="^[a-z]*$", max_length=20)],
        "count": Annotated[int, Meta(ge=0, le=INT32_MAX)], "short": Annotated[int, Meta(le=100)], "is_paid": bool,
        "seen_at": datetime, "ratio": float,
    }  # fmt: skip
    members: list[Any] = [
        ("sale_id", str), ("at", time), ("user", str), ("kind", Literal["sale", "refund"]),
        ("weight", Annotated[float, Meta(ge=0)]), ("total", int, 7),
        *((name, of | None, None) for name, of in optional.items()),
    ]  # fmt: skip
    return msgspec.defstruct("Sale", members, bases=(Record,), forbid_unknown_fields=True, gc=False)


def _build_topic(record: Any, **time: Any) -> Topic:
    return Topic(
        name="sales", description="Sales.", kafka_topic="sales", record=record, event_time=EventTime("at", **time),
        event_id=("sale_id",), subject="user", event_type="kind", values=RegistryValues(),
    )  # fmt: skip


TOPICS = (
    _build_topic(_build_record(datetime)),
    _build_topic(_build_record(str)),
    _build_topic(_build_record(int), unit="ms"),
    dataclasses.replace(_build_topic(_build_record(datetime)), spellings={"user": str.lower, "note": str.strip}),
)


@pytest.fixture(autouse=True, scope="module")
def _few_rows() -> Iterator[None]:
    """Has even one record read as columns."""
    usual, column_records.FEWEST_ROWS = column_records.FEWEST_ROWS, 1
    yield
    column_records.FEWEST_ROWS = usual


def _to_batch(values: Sequence[bytes | None]) -> pa.RecordBatch:
    count = len(values)
    return pa.record_batch(
        {
            "key": pa.array([b"k"] * count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([3] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([ARRIVAL] * count, pa.timestamp("us", tz="UTC")),
        }
    )


def _parse(values: pa.RecordBatch, topic: Topic, fetch: Any, fewest: int) -> pa.RecordBatch:
    usual, column_records.FEWEST_ROWS = column_records.FEWEST_ROWS, fewest
    try:
        return parse_batch(values, topic, MICROS, _MAX_BYTES, EventRules(), SchemaSource(fetch))
    finally:
        column_records.FEWEST_ROWS = usual


def _require_same(values: Sequence[bytes | None], topic: Topic, fetch: Any) -> pa.RecordBatch:
    # A part of a larger batch: the buffers begin elsewhere.
    batch = _to_batch([b"before", *values]).slice(1)
    found, wanted = (_parse(batch, topic, fetch, fewest) for fewest in (1, 10**9))
    assert found.schema.equals(wanted.schema)
    assert found.equals(wanted), [
        (name, found[name].to_pylist(), wanted[name].to_pylist())
        for name in found.schema.names
        if not found[name].equals(wanted[name])
    ]
    found.validate(full=True)
    return found


def _count_read(values: Sequence[bytes | None], topic: Topic, fetch: Any) -> int:
    contract, opened = compile_contract(topic), OpenedValues()
    source = SchemaSource(fetch)
    found = read_columns(_to_batch(values), contract, source, opened, MICROS, _MAX_BYTES, EventRules())
    return sum(len(each.rows) for each in found)


class Fetch:
    """Schemas by their place; equal for equal texts, so that a process compiles each once."""

    def __init__(self, *schemas: tuple[Any, str]) -> None:
        self.schemas = schemas

    def __call__(self, schema_id: int) -> RegisteredSchema:
        if schema_id >= len(self.schemas):
            raise UnknownSchemaError(f"no schema {schema_id}")
        of_format, text = self.schemas[schema_id]
        return RegisteredSchema(schema_id, of_format, text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fetch) and self.schemas == other.schemas

    def __hash__(self) -> int:
        return hash(self.schemas)


_texts = st.one_of(
    st.sampled_from(
        ["", "a", "null", "sale", "refund", "low", "HIGH", " NULL ", "é" * 6, "x" * 12, "x" * 13, "y" * 400]
    ),
    st.text(max_size=20),
)
_MILLIS, _MICROS_TYPE = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros"))
_KINDS = {"type": "enum", "name": "Kind", "symbols": ["gift", "sale", "refund"]}
_LEVELS = {"type": "enum", "name": "Level", "symbols": ["low", "high", "HIGH"]}
_near = st.integers(-(10**7), 10**7)
_counts = st.one_of(st.integers(-3, 200), st.integers(-(2**31), 2**31 - 1))
_longs = st.one_of(_counts, st.integers(-(2**63), 2**63 - 1))
_floats = st.one_of(st.floats(width=32), st.just(-0.0), st.floats(0, 100, width=32))
_far = st.one_of(_near.map(lambda s: MICROS // 10**6 + s), st.integers(-(10**12), 10**12))
# Types that a schema may have for each field, and their values.
_OF_TYPE: dict[str, list[tuple[Any, st.SearchStrategy[Any]]]] = {
    "sale_id": [("string", _texts)],
    "at": [(_MILLIS, _far.map(lambda s: s * 1000 + 1)), (_MICROS_TYPE, _far.map(lambda s: s * 10**6 + 5))],
    "user": [("string", _texts), (_KINDS | {"name": "User"}, st.sampled_from(_KINDS["symbols"]))],
    "kind": [(_KINDS, st.sampled_from(_KINDS["symbols"])), ("string", _texts)],
    "weight": [("double", st.floats()), ("float", _floats)],
    "level": [("string", _texts), (_LEVELS, st.sampled_from(_LEVELS["symbols"]))],
    "note": [("string", _texts)],
    "count": [("int", _counts), ("long", _longs)],
    "short": [("long", _longs), ("int", _counts)],
    "total": [("long", _longs)],
    "is_paid": [("boolean", st.booleans())],
    "seen_at": [(_MICROS_TYPE, _longs), (_MILLIS, _far.map(lambda s: s * 1000))],
    "ratio": [("float", _floats), ("double", st.floats())],
}
_ALWAYS = ("sale_id", "at", "user", "kind", "weight")


@st.composite
def _avro(draw: Any) -> tuple[Topic, str, list[bytes]]:
    """A topic, a schema of its fields in any order, and values of it."""
    topic = draw(st.sampled_from(TOPICS))
    fields, values = [], {}
    for name in draw(st.permutations(list(_OF_TYPE))):
        of_type, of_value = draw(st.sampled_from(_OF_TYPE[name]))
        if name == "at" and topic is not TOPICS[0] and draw(st.booleans()):
            of_type, of_value = ("string", _texts) if topic is TOPICS[1] else ("long", _far.map(lambda s: s * 1000))
        if name not in _ALWAYS and draw(st.integers(0, 9)) == 0:
            continue
        is_optional = draw(st.booleans()) if name not in _ALWAYS else draw(st.integers(0, 5)) == 0
        if is_optional:
            of_value = st.none() | of_value
            of_type = draw(st.sampled_from([["null", of_type], [of_type, "null"]]))
        fields.append({"name": name, "type": of_type})
        values[name] = of_value
    if draw(st.integers(0, 9)) == 0:
        fields.append({"name": "extra", "type": "string"})
        values["extra"] = _texts
    schema = {"type": "record", "name": "Sale", "fields": fields}
    text, bare = json.dumps(schema), fastavro.parse_schema(_bare(schema))
    written = []
    for document in draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=6)):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, bare, document)
        written.append(frame(0, out.getvalue()))
    return topic, text, written


def _bare(node: Any) -> Any:
    """The schema without logical types: values are written as they are counted."""
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if isinstance(node, dict) and "logicalType" in node:
        return node["type"]
    return {**node, "fields": [{**each, "type": _bare(each["type"])} for each in node["fields"]]} if isinstance(
        node, dict) and "fields" in node else node  # fmt: skip


def _spoil(draw: Any, value: bytes) -> bytes:
    """Other bytes: cut, longer, a byte changed, or any."""
    at = draw(st.integers(0, max(len(value) - 1, 0)))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return value[:at]
    if kind == 1:
        return value + draw(st.binary(min_size=1, max_size=12))
    if kind == 2:
        return value[:at] + draw(st.binary(max_size=12)) + value[at + 1 :]
    if kind == 3:
        return (
            value[:at]
            + draw(st.sampled_from([b"\x80", b"\xff", b"\0", b"\1", b"\4", b"\x80\0", b"\xc3"]))
            + value[at + 1 :]
        )
    return frame(0, draw(st.binary(max_size=40)))


@given(_avro())
def test_avro_records_have_the_same_rows_and_reasons(case: tuple[Topic, str, list[bytes]]) -> None:
    topic, text, values = case
    _require_same(values, topic, Fetch(("avro", text)))


@given(_avro(), st.data())
def test_no_bytes_of_avro_have_another_row_or_reason(case: tuple[Topic, str, list[bytes]], data: st.DataObject) -> None:
    topic, text, values = case
    spoilt = [_spoil(data.draw, each) if data.draw(st.booleans()) else each for each in values]
    _require_same([*spoilt, None, b"\0\0\0\0", values[0]], topic, Fetch(("avro", text)))


_PROTO = {
    False: """syntax = "proto3";
import "google/protobuf/timestamp.proto";
enum Kind { gift = 0; sale = 1; refund = 2; }
message Sale {
  string sale_id = 1; google.protobuf.Timestamp at = 3; string user = 2; Kind kind = 4; double weight = 5;
  optional string level = 6; optional string note = 7; optional int32 count = 8; optional sint32 short = 9;
  sint64 total = 10; optional bool is_paid = 11; google.protobuf.Timestamp seen_at = 12; optional float ratio = 2000;
}
message Other { string sale_id = 1; }
""",
    True: """syntax = "proto2";
import "google/protobuf/timestamp.proto";
enum Kind { gift = 0; sale = 1; refund = 2; }
message Sale {
  optional string sale_id = 16; optional google.protobuf.Timestamp at = 300; optional string user = 2;
  optional string kind = 4 [default = "sale"]; optional float weight = 5 [default = 1];
  optional Kind level = 6; optional string note = 7; optional uint32 count = 8; optional int64 short = 9;
  optional int64 total = 10 [default = 3]; optional bool is_paid = 11;
  optional google.protobuf.Timestamp seen_at = 12; optional double ratio = 13;
}
""",
}
_CLASSES: dict[bool, Any] = {}


def _find_class(is_old: bool) -> Any:
    """The class of the schema's messages, as protoc and the runtime have it."""
    if is_old not in _CLASSES:
        *others, main = compile_files(RegisteredSchema(0, "protobuf", _PROTO[is_old]))
        _CLASSES[is_old] = build_class(main, others)
    return _CLASSES[is_old]


@st.composite
def _messages(draw: Any) -> tuple[bool, list[bytes]]:
    is_old = draw(st.booleans())
    of_class = _find_class(is_old)
    written = []
    for _ in range(draw(st.integers(1, 5))):
        message = of_class()
        for each in of_class.DESCRIPTOR.fields:
            if draw(st.integers(0, 7)) == 0:
                continue
            if each.message_type is not None:
                found = getattr(message, each.name)
                found.seconds = draw(_far)
                found.nanos = draw(
                    st.one_of(st.integers(0, 999_999).map(lambda n: n * 1000), st.sampled_from([0, 1, -1, 10**9]))
                )
            else:
                setattr(message, each.name, draw(_of_field(each)))
        written.append(frame(0, b"\0" + message.SerializeToString()))
    return is_old, written


def _of_field(each: Any) -> st.SearchStrategy[Any]:
    kinds: dict[int, st.SearchStrategy[Any]] = {
        each.TYPE_STRING: st.sampled_from(["sale", "refund"]) if each.name == "kind" else _texts,
        each.TYPE_DOUBLE: st.floats(), each.TYPE_FLOAT: _floats, each.TYPE_BOOL: st.booleans(),
        each.TYPE_ENUM: st.integers(0, 2) if each.name == "level" else st.integers(-1, 4),
        each.TYPE_INT32: _counts, each.TYPE_SINT32: _counts, each.TYPE_UINT32: st.integers(0, 2**32 - 1),
        each.TYPE_INT64: _longs, each.TYPE_SINT64: _longs,
    }  # fmt: skip
    return kinds[each.type]


@given(_messages(), st.sampled_from(TOPICS[:2]))
def test_protobuf_records_have_the_same_rows_and_reasons(case: tuple[bool, list[bytes]], topic: Topic) -> None:
    _require_same(case[1], topic, Fetch(("protobuf", _PROTO[case[0]])))


@given(_messages(), st.sampled_from(TOPICS[:2]), st.data())
def test_no_bytes_of_protobuf_have_another_row_or_reason(
    case: tuple[bool, list[bytes]], topic: Topic, data: st.DataObject
) -> None:
    is_old, values = case
    spoilt = [_spoil(data.draw, each) if data.draw(st.booleans()) else each for each in values]
    again = values[0] + data.draw(st.sampled_from([value[6:] for value in values]))  # each field twice
    other = frame(0, b"\2\2\x0a\1a")
    _require_same([*spoilt, again, other, None, values[-1]], topic, Fetch(("protobuf", _PROTO[is_old])))


def _sale(**other: Any) -> dict[str, Any]:
    return {
        "sale_id": "s1", "at": ARRIVAL - timedelta(microseconds=1), "user": "u", "kind": "sale", "weight": 0.5,
        "level": None, "note": "a", "count": 5, "short": -1, "total": 2**40, "is_paid": True, "seen_at": None,
        "ratio": None, **other,
    }  # fmt: skip


_AVRO_TYPES: dict[str, Any] = {
    "sale_id": "string", "at": _MICROS_TYPE, "user": "string", "kind": _KINDS, "weight": "double",
    "level": ["null", "string"], "note": ["null", "string"], "count": ["int", "null"], "short": "long", "total": "long",
    "is_paid": "boolean", "seen_at": ["null", _MILLIS], "ratio": ["null", "float"],
}  # fmt: skip


def _write_avro(**types: Any) -> tuple[Fetch, Callable[..., bytes]]:
    schema = {"type": "record", "name": "Sale",
              "fields": [{"name": name, "type": of} for name, of in {**_AVRO_TYPES, **types}.items()]}  # fmt: skip
    parsed = fastavro.parse_schema(schema)

    def write(**other: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, _sale(**other))
        return frame(0, out.getvalue())

    return Fetch(("avro", json.dumps(schema))), write


def _write_protobuf(**other: Any) -> bytes:
    of_class = _find_class(False)
    found = of_class(**{name: value for name, value in _sale(**other).items() if value is not None})
    return frame(0, b"\0" + found.SerializeToString())


@pytest.mark.parametrize("topic", TOPICS[:2])
def test_usual_records_are_all_read_as_columns(topic: Topic) -> None:
    fetch, write = _write_avro()
    values = [write(sale_id=f"s{number}", count=number, note=None if number % 3 else "b") for number in range(500)]
    assert _count_read(values, topic, fetch) == 500
    assert _require_same(values, topic, fetch)["_reason"].null_count == 500
    of_protobuf = [_write_protobuf(sale_id=f"s{number}", count=number) for number in range(500)]
    fetch = Fetch(("protobuf", _PROTO[False]))
    assert _count_read(of_protobuf, topic, fetch) == 500
    assert _require_same(of_protobuf, topic, fetch)["_reason"].null_count == 500


@pytest.mark.parametrize(
    ("at", "byte"),
    [("level", b"\4"), ("level", b"\3"), ("count", b"\4"), ("is_paid", b"\2"), ("kind", b"\6"), ("kind", b"\1")],
)
def test_a_branch_a_symbol_or_a_boolean_that_there_is_not_is_left_to_the_other_way(at: str, byte: bytes) -> None:
    """A byte is as long as the right one: by the lengths alone nobody would see it."""
    fetch, write = _write_avro()
    fields = list(_AVRO_TYPES)
    whole = write()
    before = [{"name": name, "type": _AVRO_TYPES[name]} for name in fields[: fields.index(at)]]
    of_type = {"type": "record", "name": "Before", "fields": before}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(of_type), _sale())
    place = 5 + len(out.getvalue())
    spoilt = whole[:place] + byte + whole[place + 1 :]
    assert _count_read([whole, spoilt, whole], TOPICS[0], fetch) == 2
    rows = _require_same([whole, spoilt, whole], TOPICS[0], fetch)
    # The reader of one value takes any byte for a boolean.
    assert rows["_reason"].to_pylist() == [None, None if at == "is_paid" else "not_decodable", None]


def test_one_text_that_is_no_text_leaves_all_to_the_other_way() -> None:
    fetch, write = _write_avro()
    good = write(user="abc")
    bad = good.replace(b"abc", b"a\xc3c")
    rows = _require_same([good, bad], TOPICS[0], fetch)
    assert rows["_reason"].to_pylist() == [None, "not_decodable"]


def test_several_schemas_and_what_has_none_keep_the_order_of_their_records() -> None:
    first, write = _write_avro()
    other, write_other = _write_avro(count=["null", "long"], at=_MILLIS)
    fetch = Fetch(*first.schemas, *other.schemas, ("protobuf", _PROTO[False]), ("avro", "{"))
    values = [
        as_id(number % 5, each(sale_id=f"s{number}"))
        for number, each in enumerate([write, write_other, _write_protobuf, write, write] * 8)
    ]
    rows = _require_same([*values, None, b"{}", frame(0, b"")], TOPICS[0], fetch)
    assert rows["kafka_offset"].to_pylist() == list(range(1, 44))
    assert rows["_reason"].to_pylist()[:5] == [None, None, None, "unreadable_schema", "unknown_schema"]


def as_id(schema_id: int, value: bytes) -> bytes:
    return frame(schema_id, value[5:])


def test_a_registry_is_asked_once_for_each_id_of_a_batch() -> None:
    asked: list[int] = []

    def fetch(schema_id: int) -> RegisteredSchema:
        asked.append(schema_id)
        raise UnknownSchemaError("none") if schema_id else RegistryUnavailableError("away")

    source = SchemaSource(fetch, quarantines=True)
    values = [frame(number % 3, b"") for number in range(300)]
    rows = parse_batch(_to_batch(values), TOPICS[0], MICROS, _MAX_BYTES, EventRules(), source)
    assert set(rows["_reason"].to_pylist()) == {"unknown_schema"} and asked == [0]
