"""`headrace new-topic` from schemas: each format, what is decided, and what is refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.operations.new_topic.draft import Draft
from jobs.operations.new_topic.project_files import load_topic
from jobs.operations.new_topic.schema_command import choose_record, list_records
from jobs.operations.new_topic.schema_draft import draft_of_shape
from jobs.operations.new_topic.schema_files import read_schema
from jobs.operations.new_topic.schema_test import write_schema_test
from jobs.operations.new_topic.stream_file import write_stream
from jobs.operations.new_topic.topic_file import write_topic
from jobs.simulator.simulated_topics import find_simulation
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema, SchemaFormat
from platform_assets.streaming.ingest.record_contract import RecordContract
from platform_assets.streaming.topic_spec import RegistryValues, Topic
from tests.unit.test_avro_values import Case, _records

pytestmark = pytest.mark.unit

_MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
_ADDRESS = {"type": "record", "name": "Address", "fields": [
    {"name": "city", "type": "string", "doc": "Where \"it\" goes"}, {"name": "class", "type": ["null", "int"]},
    {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
]}  # fmt: skip
_PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}


def avro(*fields: tuple[str, Any]) -> str:
    return json.dumps(
        {"type": "record", "name": "shop.Order", "fields": [{"name": name, "type": of} for name, of in fields]}
    )


ORDER = avro(
    ("orderId", "string"), ("placed_at", _MILLIS), ("updated_at", _MILLIS), ("customer_id", "long"),
    ("status", {"type": "enum", "name": "Status", "symbols": ["open", "paid"]}), ("total", _PRICE),
    ("lines", {"type": "array", "items": ["null", _ADDRESS]}), ("home", ["null", "Address"]),
    ("labels", {"type": "map", "values": "float"}), ("photo", "bytes"),
    ("day", {"type": "int", "logicalType": "date"}), ("what", ["string", "long"]), ("topic", "string"),
    ("nanos", {"type": "long", "logicalType": "timestamp-nanos"}), ("trace", {"type": "string", "logicalType": "uuid"}),
    ("wide", {"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 4}), ("nothing", "null"),
)  # fmt: skip
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
// One order.
message Order {
  string id = 1; // Which one.
  google.protobuf.Timestamp at = 2;
  enum Kind { SALE = 0; REFUND = 1; }
  Kind kind = 3;
  repeated Line lines = 4;
  map<string, int32> counts = 5;
  uint64 big = 6;
  message Line { string sku = 1; optional double price = 2; }
}
message Payment { int64 paid_at_ms = 1; string user_id = 2; }
"""
DOCUMENT = json.dumps({
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "title": "Order",
    "required": ["metadata", "kind"], "properties": {
        "metadata": {"type": "object", "required": ["event_time", "id"], "properties": {
            "event_time": {"type": "string", "format": "date-time"}, "id": {"type": "string", "format": "uuid"}}},
        "kind": {"enum": ["a\"b", "datetime"]}, "a.b": {"type": "string"}, "free": {},
        "price": {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 99.99},
        "weird": {"type": "object", "properties": {"x-y": {"type": "string"}, "A": {"type": "string"},
                                                   "a": {"type": "string"}}},
    },
}, indent=1)  # fmt: skip


def infer(
    kind: SchemaFormat, text: str, message: str = "", references: tuple[NamedSchema, ...] = ()
) -> tuple[Draft, Topic]:
    """The draft and the topic that its file gives, which must fit the schema."""
    record, _ = choose_record(list_records(RegisteredSchema(0, kind, text, references), "it"), message, "it")
    draft = draft_of_shape("orders", "orders", record, (), absent_is_usual=kind == "protobuf")
    topic = load_topic(write_topic(draft, "From a schema."))
    assert find_misfits(record, topic) == []
    assert topic.values == RegistryValues()
    compile(write_stream(draft, 17.0), "stream", "exec")
    return draft, topic


def types_of(draft: Draft) -> dict[str, str]:
    return {each.name: each.type.as_item() for each in draft.fields}


def roles_of(draft: Draft) -> tuple[Any, ...]:
    return draft.time_field, draft.event_id, draft.subject, draft.event_type, draft.group_by


def test_types_and_roles_of_avro() -> None:
    draft, topic = infer("avro", ORDER)
    assert types_of(draft) == {
        "order_id": "str", "placed_at": "datetime", "updated_at": "datetime", "customer_id": "int",
        "status": 'Literal["open", "paid"]', "total": "Annotated[Decimal, digits(12, 2)]",
        "lines": "list[Address | None]", "home": "Address", "labels": "dict[str, float]", "photo": "bytes",
        "day": "date", "sent_topic": "str", "nanos": "str", "trace": "str",
        "wide": "Annotated[Decimal, digits(38, 4)]",
    }  # fmt: skip
    assert roles_of(draft) == ("placed_at", ("order_id",), "customer_id", None, "status")
    assert [each.name for each in topic.fields if not each.is_required] == ["home"]
    [address] = draft.classes
    assert [(name, of.python, needed) for _, name, of, needed in address.fields] == [
        ("city", "str", True), ("class_", "int", False), ("local", "str", True),
    ]  # fmt: skip
    notes = " ".join(draft.notes)
    for said in ("what is a text or a whole number of 64 bits", "nothing is always null",
                 "nanos, updated_at may say when it happened, too"):  # fmt: skip
        assert said in notes, notes
    value = {
        "orderId": "1", "placed_at": "2026-03-01T00:00:00Z", "updated_at": "2026-03-01T00:00:00Z", "customer_id": 7,
        "status": "open", "total": 1.25, "lines": [None, {"city": "x", "local": "2026-03-01T00:00:00"}], "labels": {},
        "photo": "", "day": "2026-03-01", "topic": "x", "nanos": "2026-03-01T00:00:00.123456789Z", "trace": "x",
        "wide": 1, "what": 3, "nothing": None,
    }  # fmt: skip
    RecordContract(topic).parse(json.dumps(value).encode(), 1_000_000, time.time_ns() // 1000, EventRules())


def test_the_types_of_protobuf_are_chosen_by_name() -> None:
    draft, topic = infer("protobuf", PROTO)
    assert types_of(draft) == {
        "id": "str", "at": "datetime", "kind": 'Literal["SALE", "REFUND"]', "lines": "list[Line]",
        "counts": "dict[str, int]", "big": "Annotated[Decimal, digits(38, 0)]",
    }  # fmt: skip
    assert roles_of(draft) == ("at", ("id",), None, "kind", "kind")
    assert "at may be absent or null by the schema" in " ".join(draft.notes)
    assert next(each for each in topic.fields if each.name == "id").description == "Which one."
    other, _ = infer("protobuf", PROTO, "Payment")
    assert roles_of(other) == ("paid_at_ms", (), "user_id", None, None)
    assert other.time.unit == "ms"
    with pytest.raises(UsageError, match=r"it has no type of records Nobody. It has: shop.Order, .*shop.Payment"):
        infer("protobuf", PROTO, "Nobody")


def test_types_and_roles_of_json_schema() -> None:
    draft, topic = infer("json", DOCUMENT)
    assert types_of(draft) == {
        "metadata_event_time": "datetime", "metadata_id": "str", "kind": 'Literal["a\\"b", "datetime"]',
        "price": "Annotated[Decimal, digits(4, 2)]", "weird": "Weird",
    }  # fmt: skip
    assert roles_of(draft) == ("metadata_event_time", ("metadata_id",), None, "kind", "kind")
    assert topic.fields[0].path == ("metadata", "event_time")
    notes = " ".join(draft.notes)
    for said in ("'a.b' has a dot", "free is a value of any type", "weird.'x-y' is no name",
                 "weird.a differs from another name by capitals only"):  # fmt: skip
        assert said in notes, notes


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([("event_time", "long"), ("shipped_at", _MILLIS)], "shipped_at"),
        ([("event_time_ms", "long"), ("shipped_at", ["null", _MILLIS])], "event_time_ms"),
        ([("event_time", "string"), ("expires_at", _MILLIS)], "event_time"),
        ([("at", {"type": "long", "logicalType": "local-timestamp-millis"})], "at"),
        ([("at", {"type": "long", "logicalType": "timestamp-nanos"})], "at"),
        ([("created", "string"), ("created_by", "string")], "created"),
        ([("timestampMicros", "long")], "timestamp_micros"),
        ([("at_s", "double")], "at_s"),
    ],
)
def test_the_time_is_chosen_by_name_and_type(fields: list[tuple[str, Any]], found: str) -> None:
    assert infer("avro", avro(*fields))[0].time_field == found


def test_a_time_of_nanoseconds_is_kept_to_the_microsecond() -> None:
    _, topic = infer("avro", avro(("at", {"type": "long", "logicalType": "timestamp-nanos"})))
    value = b'{"at": "2026-03-01T00:00:00.123456789Z"}'
    parsed = RecordContract(topic).parse(value, 1000, time.time_ns() // 1000, EventRules())
    assert "123456" in repr(parsed)


def test_the_unit_of_a_number_is_read_from_what_the_schema_says() -> None:
    field = {"name": "at", "type": "long", "doc": "Seconds since 1970."}
    draft, _ = infer("avro", json.dumps({"type": "record", "name": "Order", "fields": [field]}))
    assert draft.time.unit == "s"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("avro", "{", "it is no schema that can be used: the schema is no JSON"),
        ("avro", '"string"', "it is no schema that can be used: the schema is of a text"),
        ("json", '{"type": "string"}', "it is the schema of a text: a topic's records have fields"),
        ("json", '{"$ref": "#/none"}', "it is no schema that can be used: .*/none"),
        ("protobuf", "message {", "it is no schema that can be used"),
        ("avro", avro(("n", "long"), ("items_sent", "int")), "No field of the schema says when"),
        ("avro", avro(("at", "long"), ("ts", "long")), r"the schema does not say in what .*candidates: at, ts"),
    ],
)
def test_what_cannot_be_used_is_said(kind: SchemaFormat, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        infer(kind, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.avsc", ORDER, "avro"), ("a.proto", PROTO, "protobuf"), ("a.json", DOCUMENT, "json"),
        ("a.json", ORDER, "avro"), ("a.json", '{"type": "object", "properties": {}}', "json"),
        ("a.json", '{"type": "object", "at": "2026-03-01T00:00:00Z"}', None), ("a.json", '{"a": 1}\n{"a": 2}', None),
        ("a.json", "[]", None), ("a.jsonl", DOCUMENT, None), ("a.json", None, None), ("a.avsc", None, None),
    ],
)  # fmt: skip
def test_schemas_are_told_from_samples(tmp_path: Path, name: str, text: str | None, found: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    schema = read_schema(tmp_path / name)
    assert (schema and schema.format) == found


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text('\\x0an"\n ', max_size=300))
def test_the_test_holds_the_schema_as_it_is(text: str) -> None:
    schema = RegisteredSchema(1, "avro", text, (NamedSchema("a", text),))
    written = write_schema_test("orders", schema, "a.b")
    module: dict[str, Any] = {}
    exec(written.replace("from platform_assets.topics.orders import TOPIC", ""), module)
    assert module["SCHEMA"] == schema
    assert max(map(len, written.splitlines())) <= 120 or max(map(ord, text)) > 126


@given(_records)
def test_a_topic_of_any_avro_record_loads_and_fits(case: Case) -> None:
    fields = [{"name": "event_time", "type": _MILLIS}, *case.schema["fields"]]
    draft, topic = infer("avro", json.dumps({**case.schema, "fields": fields}))
    assert draft.time_field == "event_time"
    left_out = {re.split(r"[ .\[]", note)[0] for note in draft.notes if "left out" in note}
    assert {each.path[0] for each in topic.fields} | left_out >= {each["name"] for each in fields}


def test_a_topic_of_a_registry_is_not_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    _, topic = infer("avro", ORDER)
    monkeypatch.setattr("platform_assets.topics.load_topics", lambda: (topic,))
    with pytest.raises(UsageError, match="values of orders are written by schemas of a registry"):
        find_simulation("orders")


_NAMES = st.sampled_from(
    ["digits", "epoch", "date", "datetime", "class", "msgspec", "Meta", "Decimal", "str", "self", "event_time",
     "event_id", "unknown_fields", "ingested_at", "Literal", "Record", "_id", "__init__", "a.b", "x-y", "Ä", "1", "A",
     "a", "user_id", "type", "window_start", "field", "None", "topic", "offset", "x" * 150]
) | st.text(max_size=8)  # fmt: skip
_PARTS = st.recursive(
    st.sampled_from([
        {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}, {},
        {"type": "number", "multipleOf": 0.001, "minimum": -10, "maximum": 10}, {"enum": ["", "a\\", '"""', "\n"]},
        {"type": "string", "format": "date"}, {"type": ["string", "null"], "format": "date-time"},
        {"type": "string", "contentEncoding": "base64", "description": 'date "digits(1)" \\ Decimal\n' * 30},
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, {"type": ["string", "integer"]},
    ]),
    lambda inner: st.one_of(
        inner.map(lambda of: {"type": "array", "items": of}),
        inner.map(lambda of: {"type": "object", "additionalProperties": of}),
        st.dictionaries(_NAMES, inner, min_size=1, max_size=4).map(lambda of: {"type": "object", "properties": of}),
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(_NAMES, _PARTS, max_size=6), st.data())
def test_a_topic_of_any_json_schema_loads_and_fits(members: dict[str, Any], data: st.DataObject) -> None:
    members = {**members, "occurred_at": {"type": "string", "format": "date-time"}}
    required = sorted({"occurred_at", *data.draw(st.lists(st.sampled_from(sorted(members))))})
    _, topic = infer("json", json.dumps({"type": "object", "properties": members, "required": required}))
    needed = {".".join(each.path) for each in topic.fields if each.is_required}
    assert needed <= set(required) | {topic.event_time.field}
    RecordContract(topic)
