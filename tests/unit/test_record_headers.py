"""Records that are made of Kafka's headers too: fields of headers, and CloudEvents in both modes."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.simulator.by_contract.contract_topic import build_profile
from platform_assets.errors import TopicSpecError, UsageError
from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import (
    CloudEvents,
    EventTime,
    Record,
    TextLines,
    Topic,
)
from platform_assets.streaming.topic_tables import HEADERS_TYPE
from tests.unit.test_record_lists import MICROS, NOW, as_kafka_batch

Headers = Sequence[tuple[str, bytes | None]] | None


class Reading(Record):
    meter: str
    at: datetime
    value: float
    tenant: str
    attempt: int = 0


READINGS = Topic(
    name="readings", description="Readings.", kafka_topic="readings", record=Reading, event_time=EventTime("at"),
    event_id=("meter", "tenant"), subject="tenant", headers={"tenant": "x-tenant", "attempt": "attempt"},
)  # fmt: skip
BODY = {"meter": "m1", "at": NOW.isoformat(), "value": 1.5}


class Event(Record):
    id: str
    source: str
    type: str
    time: datetime
    data: dict[str, int]
    subject: str | None = None
    traceparent: str | None = None
    datacontenttype: str | None = None


EVENTS = Topic(
    name="happened", description="Events.", kafka_topic="happened", record=Event, event_time=EventTime("time"),
    event_id=("source", "id"), event_type="type", values=CloudEvents(),
)  # fmt: skip
ATTRIBUTES = {"id": "1", "source": "/shop", "type": "ordered", "time": NOW.isoformat()}


def parse(topic: Topic, *records: tuple[bytes | None, Headers]) -> list[dict[str, Any]]:
    batch = as_kafka_batch([value for value, _ in records], [(0, offset) for offset in range(len(records))])
    headers = [None if own is None else [{"key": k, "value": v} for k, v in own] for _, own in records]
    batch = batch.append_column("headers", pa.array(headers, as_arrow(HEADERS_TYPE)))
    return parse_batch(batch, topic, MICROS, 10_000, EventRules()).to_pylist()


def as_headers(**attributes: str) -> list[tuple[str, bytes | None]]:
    return [(f"ce_{name}", text.encode()) for name, text in attributes.items()]


def test_fields_of_headers_are_fields_of_the_record() -> None:
    body = json.dumps({**BODY, "more": [1]}).encode()
    (row,) = parse(READINGS, (body, [("x-tenant", b"a"), ("attempt", b"3"), ("x-tenant", b"b"), ("other", b"\xff")]))
    assert row["_reason"] is None
    assert (row["meter"], row["tenant"], row["attempt"], row["unknown_fields"]) == ("m1", "b", 3, '{"more":[1]}')
    assert row["event_id"] == '["m1","b"]' and row["_headers"] is None


@pytest.mark.parametrize(
    ("value", "headers", "reason", "said"),
    [
        (json.dumps(BODY).encode(), None, "missing_field", "tenant is missing"),
        (json.dumps(BODY).encode(), [("x-tenant", None)], "missing_field", "tenant is missing"),
        (json.dumps(BODY).encode(), [("x-tenant", b"\xff")], "bad_envelope", "x-tenant is no UTF-8"),
        (json.dumps(BODY).encode(), [("x-tenant", b"a"), ("attempt", b"often")], "wrong_type", "attempt"),
        (json.dumps({**BODY, "tenant": "z"}).encode(), [("x-tenant", b"a")], "bad_envelope", "tenant is in the value"),
        (json.dumps({**BODY, "tenant": "z"}).encode(), None, "bad_envelope", "tenant is in the value"),
        (json.dumps({**BODY, "attempt": 1}).encode(), [("x-tenant", b"a")], "bad_envelope", "attempt is in the value"),
        (b"[1]", [("x-tenant", b"a")], "wrong_type", "not an object"),
        (b'{"meter": "m1"} {', [("x-tenant", b"a")], "not_json", ""),
        (b"", [("x-tenant", b"a")], "not_json", ""),
        (None, [("x-tenant", b"a")], "tombstone", ""),
        (b'{"a":' * 50_000, [("x-tenant", b"a")], "oversized", ""),
    ],
)
def test_what_is_wrong_is_said_and_all_of_the_record_is_kept(
    value: bytes | None, headers: Headers, reason: str, said: str
) -> None:
    (row,) = parse(READINGS, (value, headers))
    assert row["_reason"] == reason and said in row["_detail"] and row["_value"] == value
    assert row["_headers"] == (None if headers is None else [{"key": k, "value": v} for k, v in headers])


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.none())), st.text(), st.integers(0, 9))
def test_a_value_with_its_headers_is_the_object_with_their_members(
    more: dict[str, Any], tenant: str, attempt: int
) -> None:
    more = {name: value for name, value in more.items() if name not in ("tenant", "attempt", *BODY)}
    spaced = f" {json.dumps({**BODY, **more})}\n".encode()
    plain = dataclasses.replace(READINGS, headers={})
    whole = json.dumps({**BODY, **more, "tenant": tenant, "attempt": attempt}).encode()
    headers = [("attempt", str(attempt).encode()), ("x-tenant", tenant.encode())]
    (found,) = parse(READINGS, (spaced, headers))
    (expected,) = parse_batch(as_kafka_batch([whole], [(0, 0)]), plain, MICROS, 10_000, EventRules()).to_pylist()
    kept = {name: value for name, value in found.items() if name not in ("_value", "_headers")}
    assert kept == {name: value for name, value in expected.items() if name != "_value"}


def test_both_modes_of_a_cloud_event_give_the_same_row() -> None:
    data = {"items": 3}
    structured = json.dumps({"specversion": "1.0", **ATTRIBUTES, "traceparent": "00-1", "data": data}).encode()
    of_structured = [("content-type", b"Application/CloudEvents+JSON; charset=UTF-8"), *as_headers(specversion="1.0")]
    binary = as_headers(specversion="1.0", **ATTRIBUTES, traceparent="00-1")
    found = parse(EVENTS, (structured, of_structured), (structured, None), (json.dumps(data).encode(), binary))
    for row in found:
        assert row.pop("unknown_fields") == '{"specversion":"1.0"}'
        row.pop("kafka_offset")
    assert found[0] == found[1] == found[2]
    assert found[0]["data"] == [("items", 3)] and found[0]["event_id"] == '["/shop","1"]'
    assert found[0]["event_time"] == NOW


@pytest.mark.parametrize(
    ("value", "headers", "reason", "said"),
    [
        (b"{}", as_headers(specversion="0.3", **ATTRIBUTES), "bad_envelope", "version '0.3'; 1.0 is read"),
        (b'{"n": 1}, "id": "2"', as_headers(specversion="1.0", **ATTRIBUTES), "bad_envelope", "no application/json"),
        (b'{"n": 1}', as_headers(specversion="1.0", data="x", **ATTRIBUTES), "bad_envelope", "ce_data is no attribute"),
        (b"{}", [("ce_specversion", b"\xff")], "bad_envelope", "ce_specversion is no UTF-8"),
        (b"{}", as_headers(specversion="1.0", id="1"), "missing_field", "source"),
        (b'"x"', as_headers(specversion="1.0", **ATTRIBUTES), "wrong_type", "data"),
        (None, as_headers(specversion="1.0", **ATTRIBUTES), "missing_field", "data"),
        (None, None, "tombstone", ""),
        (b'"x"', [], "wrong_type", "not an object"),
        (b'{"specversion": "0.3"}', None, "bad_envelope", "version '0.3'; 1.0 is read"),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "bad_envelope", "several CloudEvents"),
    ],
)
def test_what_is_no_cloud_event_of_the_contract_is_refused(
    value: bytes | None, headers: Headers, reason: str, said: str
) -> None:
    (row,) = parse(EVENTS, (value, headers))
    assert row["_reason"] == reason and said in row["_detail"] and row["_value"] == value


class Blob(Record):
    id: str
    time: datetime
    data: str | None = None
    data_base64: bytes | None = None


@pytest.mark.parametrize(
    ("content_type", "value", "data", "raw"),
    [
        (b"text/plain; charset=utf-8", b"a text", "a text", None),
        (b"application/octet-stream", b"\0\xff", None, b"\0\xff"),
        (b"Application/Problem+JSON", b'"x"', "x", None),
    ],
)
def test_data_is_what_its_content_type_says(
    content_type: bytes, value: bytes, data: str | None, raw: bytes | None
) -> None:
    topic = dataclasses.replace(EVENTS, record=Blob, event_id=("id",), event_type=None)
    headers = [*as_headers(specversion="1.0", id="1", time=NOW.isoformat()), ("content-type", content_type)]
    (row,) = parse(topic, (value, headers))
    assert (row["_reason"], row["data"], row["data_base64"]) == (None, data, raw)
    assert base64.b64encode(raw or b"").decode() not in (row["unknown_fields"] or "") or raw is None


@given(
    st.none() | st.binary(max_size=60),
    st.lists(
        st.tuples(st.sampled_from(["ce_specversion", "ce_id", "content-type", "x"]), st.none() | st.binary(max_size=9))
    ),
)
def test_whatever_the_record_it_is_a_row(value: bytes | None, headers: Headers) -> None:
    for topic in (EVENTS, READINGS):
        (row,) = parse(topic, (value, headers))
        assert row["_value"] == value and row["_reason"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": TextLines("(?P<meter>.)(?P<at>.)(?P<value>.)(?P<tenant>.)")}, "tenant is a group of the pattern"),
        ({"values": TextLines("(?P<meter>.)(?P<value>.)")}, "no group for the required field at"),
        ({"values": ChangeEvents(key=("meter",))}, "no header is of it"),
        ({"headers": {"nobody": "x"}}, "headers names 'nobody'"),
    ],
)
def test_headers_that_no_record_can_have_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TopicSpecError, match=said):
        dataclasses.replace(READINGS, **changes)
    with pytest.raises(UsageError, match="made of their headers"):
        build_profile(READINGS)
