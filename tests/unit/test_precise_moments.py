"""Moments with parts of a microsecond are never cut, wherever a contract has a column of microseconds for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import field

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.protobuf_files import compile_files
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.ingest.filled_fields import fill_fields
from platform_assets.streaming.ingest.record_parser import parsed_schema
from platform_assets.streaming.topic_spec import CloudEvents, EventTime, Record, RegistryValues, Topic
from tests.unit.protobuf_schemas import build_class
from tests.unit.test_headers_of_formats import as_headers
from tests.unit.test_headers_of_formats import parse as parse_with_headers
from tests.unit.test_registry_values import ARRIVAL, parse


class Inner(Record):
    t: datetime | None = None
    text: str | None = None


class Outer(Record):
    id: str
    at: datetime
    plain: datetime | None = None
    off: datetime | None = field(name="pathed.t", default=None)
    inner: Inner | None = None
    times: list[datetime] = []
    named: dict[str, datetime] = {}
    many: list[Inner] = []
    deep: dict[str, list[Inner]] = {}


class Data(Record):
    plain: datetime | None = None
    inner: Inner | None = None
    times: list[datetime] = []


class Event(Record):
    id: str
    source: str
    time: datetime
    data: Data | None = None


TOPIC = Topic(
    name="moments", description="Moments.", kafka_topic="moments", record=Outer, event_time=EventTime("at"),
    event_id=("id",), values=RegistryValues(),
)  # fmt: skip
EVENTS = Topic(
    name="happened", description="Events.", kafka_topic="happened", record=Event, event_time=EventTime("time"),
    event_id=("source", "id"), values=CloudEvents(is_registered=True),
)  # fmt: skip
_TEXT = """syntax = "proto3"; import "google/protobuf/timestamp.proto";
message Outer {
  string id = 1; google.protobuf.Timestamp at = 2; google.protobuf.Timestamp plain = 3; Inner pathed = 4;
  Inner inner = 5; repeated google.protobuf.Timestamp times = 6; map<string, google.protobuf.Timestamp> named = 7;
  repeated Inner many = 8; google.protobuf.Timestamp unknown = 9;
}
message Inner { google.protobuf.Timestamp t = 1; google.protobuf.Timestamp text = 2; }"""
SCHEMA = RegisteredSchema(1, "protobuf", _TEXT)
SOURCE = SchemaSource(lambda schema_id: SCHEMA)
# Where a moment is put, what of a row has it, and what the refusal calls it.
PLACES: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "plain": (lambda m: m.plain, lambda row: row["plain"], "plain"),
    "pathed": (lambda m: m.pathed.t, lambda row: row["off"], "off"),
    "inner": (lambda m: m.inner.t, lambda row: row["inner"]["t"], "inner.t"),
    "times": (lambda m: m.times.add(), lambda row: row["times"][0], "times"),
    "named": (lambda m: m.named["a"], lambda row: dict(row["named"])["a"], "named"),
    "many": (lambda m: m.many.add().t, lambda row: row["many"][0]["t"], "many.t"),
}
_nanos = st.integers(0, 999_999_999) | st.integers(0, 999_999).map(lambda micros: micros * 1_000)


@lru_cache(maxsize=1)
def find_class() -> Any:
    return build_class(compile_files(SCHEMA)[-1])


def write(put: Callable[[Any], Any], nanos: int) -> bytes:
    message = find_class()(id="1")
    for moment, own in ((message.at, 0), (put(message), nanos)):
        moment.seconds, moment.nanos = int(ARRIVAL.timestamp()), own
    return frame(1, b"\0" + message.SerializeToString())


@given(st.sampled_from(sorted(PLACES)), _nanos)
def test_a_moment_is_exact_or_its_record_is_refused(place: str, nanos: int) -> None:
    put, find, name = PLACES[place]
    (row,) = parse([write(put, nanos)], SOURCE, TOPIC).to_pylist()
    if nanos % 1_000:
        assert row["_reason"] == "not_decodable" and f": {name} has parts of a microsecond" in row["_detail"]
    else:
        assert row["_reason"] is None and find(row) == ARRIVAL + timedelta(microseconds=nanos // 1_000)


@given(st.sampled_from(["inner", "plain", "times"]), _nanos)
def test_data_of_an_event_are_judged_alike(place: str, nanos: int) -> None:
    put, find, _ = PLACES[place]
    (row,) = parse_with_headers(EVENTS, (write(put, nanos), as_headers("application/protobuf")), source=SOURCE)
    if nanos % 1_000:
        assert row["_reason"] == "not_decodable" and "has parts of a microsecond" in row["_detail"]
    else:
        assert row["_reason"] is None and find(row["data"]) == ARRIVAL + timedelta(microseconds=nanos // 1_000)


@pytest.mark.parametrize("put", [lambda message: message.inner.text, lambda message: message.unknown])
def test_texts_and_unknown_fields_keep_all_digits(put: Callable[[Any], Any]) -> None:
    (row,) = parse([write(put, 123_456_789)], SOURCE, TOPIC).to_pylist()
    kept = row["unknown_fields"] or row["inner"]["text"]
    assert row["_reason"] is None and f"{ARRIVAL:%Y-%m-%dT%H:%M:%S}.123456789Z" in kept


# How a moment stands in `unknown_fields`, and where the filled column has it.
_KEPT: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "plain": ("%s", lambda found: found),
    "times": ("[%s]", lambda found: found[0]),
    "inner": ('{"t":%s}', lambda found: found["t"]),
}


@given(_nanos, st.sampled_from(sorted(_KEPT)))
def test_a_column_with_history_gets_no_moment_that_was_cut(nanos: int, name: str) -> None:
    pattern, find = _KEPT[name]
    moment = pattern % f'"{ARRIVAL:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"'
    unknown = f'{{"{name}":{moment}}}'
    schema = parsed_schema(TOPIC)
    rows = pa.RecordBatch.from_pylist([dict.fromkeys(schema.names) | {"unknown_fields": unknown}], schema)
    (row,) = fill_fields(rows, TOPIC, EventRules()).to_pylist()
    if nanos % 1_000:
        assert row[name] is None and row["unknown_fields"] == unknown
    else:
        assert find(row[name]) == ARRIVAL + timedelta(microseconds=nanos // 1_000)
        assert row["unknown_fields"] is None
