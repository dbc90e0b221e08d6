"""Fields of headers on values that are no JSON object; CloudEvents whose data, or whose whole, is Avro."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import datetime
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.avro_events import read_avro_event
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.formats.varint import write_varint
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import CloudEvents, EventTime, JsonValues, Record, RegistryValues, Topic
from platform_assets.streaming.topic_spec import TextLines as Lines
from platform_assets.streaming.topic_tables import HEADERS_TYPE
from tests.unit.test_record_headers import BODY, READINGS, Headers
from tests.unit.test_record_lists import MICROS, NOW, as_kafka_batch

TENANT = [("x-tenant", b"a"), ("attempt", b"3")]


def parse(topic: Topic, *records: tuple[bytes | None, Headers], source: SchemaSource | None = None,
          max_bytes: int = 10_000) -> list[dict[str, Any]]:  # fmt: skip
    batch = as_kafka_batch([value for value, _ in records], [(0, offset) for offset in range(len(records))])
    headers = [None if own is None else [{"key": k, "value": v} for k, v in own] for _, own in records]
    batch = batch.append_column("headers", pa.array(headers, as_arrow(HEADERS_TYPE)))
    return parse_batch(batch, topic, MICROS, max_bytes, EventRules(), source).to_pylist()


def test_each_record_of_a_list_has_the_headers() -> None:
    topic = dataclasses.replace(READINGS, values=JsonValues(is_list=True))
    both = json.dumps([BODY, {**BODY, "meter": "m2", "more": [1, 2]}]).encode()
    taken = json.dumps([BODY, {**BODY, "tenant": "z"}]).encode()
    odd: list[bytes | None] = [b"[]", b"{}", b"[1]", b'[{"a":', None]
    rows = parse(topic, (both, TENANT), (taken, TENANT), *((value, TENANT) for value in odd))
    assert [(row["meter"], row["tenant"], row["attempt"], row["unknown_fields"]) for row in rows[:2]] == [
        ("m1", "a", 3, None), ("m2", "a", 3, '{"more":[1, 2]}'),
    ]  # fmt: skip
    assert [row["_reason"] for row in rows[2:]] == [
        "bad_envelope", "bad_value", "wrong_type", "wrong_type", "not_json", "tombstone",
    ]  # fmt: skip
    assert [row["_value"] for row in rows[2:]] == [taken, *odd]


def test_a_line_has_the_headers() -> None:
    topic = dataclasses.replace(READINGS, values=Lines(r"(?P<meter>\w+) (?P<at>\S+) (?P<value>\S+)"))
    line = f"m1 {NOW.isoformat()} 1.5\n".encode()
    rows = parse(topic, (line, TENANT), (line, []), (b"no", TENANT), (b"\xff", TENANT), (None, TENANT),
                 (line, [("x-tenant", b"a"), ("attempt", b"often")]))  # fmt: skip
    assert (rows[0]["meter"], rows[0]["value"], rows[0]["tenant"], rows[0]["attempt"]) == ("m1", 1.5, "a", 3)
    assert [row["_reason"] for row in rows] == [
        None, "missing_field", "no_match", "no_match", "tombstone", "wrong_type",
    ]  # fmt: skip
    assert rows[2]["_value"] == b"no" and "'no'" in rows[2]["_detail"]


READING_SCHEMA = {"type": "record", "name": "Reading", "fields": [
    {"name": "meter", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "value", "type": "double"}, {"name": "more", "type": ["null", "string"], "default": None},
]}  # fmt: skip
_TAKEN = {**READING_SCHEMA, "fields": [*READING_SCHEMA["fields"], {"name": "tenant", "type": "string"}]}
SOURCE = SchemaSource(
    lambda schema_id: RegisteredSchema(schema_id, "avro", json.dumps((READING_SCHEMA, _TAKEN)[schema_id]))
)


def write(schema_id: int, **row: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema((READING_SCHEMA, _TAKEN)[schema_id]), row)
    return frame(schema_id, out.getvalue())


def test_a_value_of_a_registry_has_the_headers() -> None:
    topic = dataclasses.replace(READINGS, values=RegistryValues())
    row = {"meter": "m1", "at": NOW, "value": 1.5}
    good, taken = write(0, **row), write(1, **row, tenant="z")
    rows = parse(
        topic, *[(good, TENANT)] * 100, (good, []), (taken, TENANT), (good[:-1], TENANT), (b"{}", TENANT),
        (write(0, **row, more="x" * 30), TENANT), source=SOURCE, max_bytes=len(good) + 31,
    )  # fmt: skip
    assert [found["_reason"] for found in rows] == [None] * 100 + [
        "missing_field", "bad_envelope", "not_decodable", "not_framed", None,
    ], "more fields as JSON than as bytes are no larger value"  # fmt: skip
    assert {(found["meter"], found["tenant"], found["attempt"], found["event_time"]) for found in rows[:100]} == {
        ("m1", "a", 3, NOW)
    }
    assert rows[101]["_value"] == taken and rows[104]["unknown_fields"] == f'{{"more":"{"x" * 30}"}}'


class Data(Record):
    meter: str | None = None
    value: float | None = None
    n: float | None = None


class Event(Record):
    id: str
    source: str
    time: datetime
    data: Data | None = None
    data_base64: bytes | None = None
    subject: str | None = None


EVENTS = Topic(
    name="happened", description="Events.", kafka_topic="happened", record=Event, event_time=EventTime("time"),
    event_id=("source", "id"), values=CloudEvents(is_registered=True),
)  # fmt: skip
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/shop", "time": NOW.isoformat()}


def as_headers(content_type: str, **more: str) -> list[tuple[str, bytes | None]]:
    attributes = [(f"ce_{name}", text.encode()) for name, text in (ATTRIBUTES | more).items()]
    return [*attributes, ("content-type", content_type.encode())]


def test_data_in_a_frame_is_read_by_its_schema() -> None:
    framed = write(0, meter="m1", at=NOW, value=1.5)
    rows = parse(
        EVENTS, (framed, as_headers("application/avro")), (b'{"n": 1}', as_headers("application/json")),
        (framed[:-1], as_headers("application/avro")), (b"\1\2", as_headers("application/avro")),
        (json.dumps({**ATTRIBUTES, "data": {"n": 2}}).encode(), [("content-type", b"application/cloudevents+json")]),
        (frame(0, b"x"), [("content-type", b"\xff"), ("ce_specversion", b"1.0")]), source=SOURCE,
    )  # fmt: skip
    assert [row["_reason"] for row in rows] == [None, None, "not_decodable", None, None, "bad_envelope"]
    assert [row["data"] for row in rows[:2]] == [
        {"meter": "m1", "value": 1.5, "n": None}, {"meter": None, "value": None, "n": 1.0},
    ]  # fmt: skip
    assert f'"data.at":"{NOW:%Y-%m-%dT%H:%M:%S}' in rows[0]["unknown_fields"] and rows[0]["data_base64"] is None
    assert rows[2]["_value"] == framed[:-1] and rows[3]["data_base64"] == b"\1\2"


def _official_schema() -> Any:
    """The specification has it so (cloudevents/formats/avro-format.md): it holds itself."""
    plain = ["null", "boolean"]
    data = {"type": "record", "name": "CloudEventData", "fields": [{"name": "value", "type": {"type": "map", "values": [
        *plain, {"type": "map", "values": "CloudEventData"}, {"type": "array", "items": "CloudEventData"}, "double",
        "string"]}}]}  # fmt: skip
    branches = ["bytes", *plain, {"type": "map", "values": [*plain, data, "double", "string"]},
                {"type": "array", "items": "CloudEventData"}, "double", "string"]  # fmt: skip
    attribute = {"type": "map", "values": ["null", "boolean", "int", "string", "bytes"]}
    return fastavro.parse_schema({"type": "record", "name": "CloudEvent", "namespace": "io.cloudevents", "fields": [
        {"name": "attribute", "type": attribute}, {"name": "data", "type": branches}]})  # fmt: skip


OFFICIAL = _official_schema()


def write_event(data: Any, /, **attributes: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, OFFICIAL, {"attribute": attributes, "data": data})
    return out.getvalue()


_scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
_names = st.text(max_size=3)
_objects = st.recursive(
    st.dictionaries(_names, _scalars, max_size=2),
    lambda inner: st.dictionaries(
        _names, _scalars | st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=2), max_size=3
    ),
    max_leaves=8,
)


def as_record(found: Any) -> Any:
    """An object as the specification's record has it: objects within objects are maps of such records."""

    def member(each: Any) -> Any:
        if isinstance(each, dict):
            return {name: as_record(inner) for name, inner in each.items()}
        return [as_record(inner) for inner in each] if isinstance(each, list) else each

    return {"value": {name: member(each) for name, each in found.items()}}


@given(
    st.lists(_objects, max_size=3) | st.dictionaries(_names, _scalars | _objects, max_size=3) | _scalars | st.binary()
)
def test_an_event_in_avro_is_what_the_specifications_own_schema_writes(data: Any) -> None:
    written: Any = data
    if isinstance(data, list):
        written = [as_record(each) for each in data]
    elif isinstance(data, dict):
        written = {name: as_record(each) if isinstance(each, dict) else each for name, each in data.items()}
    attributes, found = read_avro_event(write_event(written, id="1", flag=True, count=-5, raw=b"\0", none=None))
    assert attributes == {"id": "1", "flag": True, "count": -5, "raw": b"\0", "none": None}
    assert found == data and type(found) is type(data)


def test_events_in_avro_are_rows() -> None:
    headers: Headers = [("content-type", b"application/cloudevents+avro; charset=utf-8")]
    rows = parse(
        EVENTS, (write_event({"n": 1.5}, **ATTRIBUTES), headers), (write_event(b'{"n": 2}', **ATTRIBUTES), headers),
        (write_event(b"\xff", **ATTRIBUTES, datacontenttype="image/png"), headers),
        (write_event(None, **ATTRIBUTES, subject="s"), headers),
        (write_event(None, **(ATTRIBUTES | {"specversion": "0.3"})), headers), (b"{}", headers),
        (write_event(None, **ATTRIBUTES, data="x"), headers), (write_event(float("nan"), **ATTRIBUTES), headers),
        (write_event(None, **ATTRIBUTES) + b"x", headers), source=SOURCE,
    )  # fmt: skip
    assert [row["_reason"] for row in rows] == [None] * 4 + ["bad_envelope"] * 5
    assert [row["data"]["n"] for row in rows[:2]] == [1.5, 2.0]
    assert rows[2]["data_base64"] == b"\xff" and rows[3]["subject"] == "s"


def nest(depth: int) -> bytes:
    """An event whose data are objects in lists, so deep: written by hand, for fastavro's own writer has a stack too."""
    start = write_event(None, **ATTRIBUTES)[:-1]
    # Data: a list (branch 4) of one record. A record: one member `a`, a list (branch 3) of one record. The last: empty.
    return start + b"\x08\x02" + b"\x02\x02a\x06\x02" * (depth - 1) + b"\x00" + b"\x00\x00" * (depth - 1) + b"\x00"


def test_what_is_nested_too_deeply_ends_no_process() -> None:
    _, data = read_avro_event(nest(60))
    for _ in range(59):
        ((name, data),) = data[0].items()
        assert name == "a"
    assert data == [{}]
    for depth in (66, 1_000, 200_000):
        with pytest.raises(UndecodableError):
            read_avro_event(nest(depth))


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_else_is_raised(value: bytes) -> None:
    for each in (value, write_event([as_record({"a": [{}]})], id="1")[:-1] + value):
        try:
            read_avro_event(each)
        except UndecodableError:
            continue


def write_zigzag(number: int) -> bytes:
    return write_varint(2 * number if number >= 0 else -2 * number - 1)


@given(st.integers(-8, 12), st.binary(max_size=3), st.booleans())
def test_no_branch_is_taken_from_the_end_of_a_union(branch: int, rest: bytes, is_data: bool) -> None:
    """What the first byte of a value says it is: a number that the specification's union has, or an error."""
    start = write_event(None, id="1")[:-1] if is_data else b"\x02\x02x"
    value = start + write_zigzag(branch) + rest + (b"" if is_data else b"\x00\x02")
    try:
        found = read_avro_event(value)
    except UndecodableError:
        return
    assert 0 <= branch < (7 if is_data else 5)
    assert found is not None


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_whole_number_of_an_event_in_avro_has_32_bits(number: int) -> None:
    value = b"\x02\x02x\x04" + write_zigzag(number) + b"\x00\x02"
    if -(2**31) <= number < 2**31:
        assert read_avro_event(value) == ({"x": number}, None)
    else:
        with pytest.raises(UndecodableError, match="32 bits"):
            read_avro_event(value)


JSON_SOURCE = SchemaSource(lambda schema_id: RegisteredSchema(schema_id, "json", '{"type": "object"}'))


@given(
    st.binary(max_size=4)
    | st.sampled_from([b"", b" ", b"{}", b"1", b"nul", b'"\xff"', b'{"n": 1}'])
    | st.builds(lambda name: b'{"n": 1}, "%s": "other"' % name.encode(), st.sampled_from([*ATTRIBUTES, "subject"])),
    st.sampled_from(["application/json", "application/octet-stream"]),
)
def test_data_by_a_json_schema_is_one_json_text(payload: bytes, content_type: str) -> None:
    """What follows such a text in the value would be attributes of the event, else."""
    (row,) = parse(EVENTS, (frame(0, payload), as_headers(content_type)), source=JSON_SOURCE)
    try:
        json.loads(payload.decode())
    except ValueError:
        assert row["_reason"] == "not_decodable" and row["_detail"].startswith("no value of schema 0: no JSON: ")
    else:
        assert row["_reason"] in (None, "wrong_type")
        assert row["_reason"] or (row["source"], row["subject"]) == ("/shop", None)
