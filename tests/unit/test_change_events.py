"""Change events of Debezium: which rows they become, and why others are refused."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import TopicSpecError, UsageError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.changed_row import CHANGE_TIME, ChangedRow
from platform_assets.streaming.current_rows import build_current_rows
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import EventTime, JsonValues, Record, Topic
from tests.accounts import TOPIC, Account, with_schema

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL_MICROS = int(ARRIVAL.timestamp()) * 1_000_000
MS = ARRIVAL_MICROS // 1_000
SOURCE = {"connector": "postgresql", "ts_ms": MS, "lsn": 24023128, "snapshot": "false"}
ROW = {"id": 7, "balance": "12.50", "name": "Ann", "opened_on": 18_262, "tags": ["a"]}
CREATED = {"before": None, "after": ROW, "source": SOURCE, "op": "c", "ts_ms": MS + 9}
DELETED = {"before": {"id": 7}, "after": None, "source": SOURCE, "op": "d", "ts_ms": MS + 9}
KEY = b'{"id": 7}'
UNAVAILABLE = "__debezium_unavailable_value"


def parse(*records: Any, topic: Topic = TOPIC, keys: Sequence[bytes | None] = ()) -> list[dict[str, Any]]:
    """The rows of these values: bytes, None, or what becomes JSON. Their keys are `KEY`, or those of `keys`."""
    raw = [value if value is None or isinstance(value, bytes) else json.dumps(value).encode() for value in records]
    batch = pa.record_batch(
        {
            "key": pa.array(keys or [KEY] * len(raw), pa.binary()),
            "value": pa.array(raw, pa.binary()),
            "partition": pa.array([0] * len(raw), pa.int32()),
            "offset": pa.array(range(len(raw)), pa.int64()),
            "timestamp": pa.array([ARRIVAL] * len(raw), pa.timestamp("us", tz="UTC")),
        }
    )
    rows: list[dict[str, Any]] = parse_batch(batch, topic, ARRIVAL_MICROS, 10_000, EventRules()).to_pylist()
    return rows


def test_a_change_is_its_row_and_what_it_says_of_itself() -> None:
    (row,) = parse(CREATED)
    assert row["_reason"] is None, row["_detail"]
    assert (row["id"], row["balance"], row["name"], row["tags"]) == ("7", Decimal("12.50"), "Ann", ["a"])
    assert row["opened_on"] == date(2020, 1, 1), "Debezium counts days"
    assert (row["change_operation"], row["event_time"]) == ("create", ARRIVAL)
    assert row["change_position"] == "00000000000024023128"
    assert json.loads(row["change_source"]) == SOURCE
    assert row["unknown_fields"] is None


def test_both_wrappings_are_one_row() -> None:
    plain, wrapped = parse(CREATED, with_schema(CREATED))
    assert plain.pop("kafka_offset") != wrapped.pop("kafka_offset")
    assert plain == wrapped


def test_each_operation_has_its_word() -> None:
    events = [{**CREATED, "op": letter} for letter in "cur"]
    rows = parse(*events, DELETED, None, {"schema": None, "payload": None})
    assert [row["_detail"] for row in rows] == [None] * 6
    assert [row["change_operation"] for row in rows] == [
        "create", "update", "snapshot", "delete", "tombstone", "tombstone",
    ]  # fmt: skip


def test_of_a_row_that_is_gone_only_the_key_is_judged() -> None:
    full = {**DELETED, "before": {**ROW, "balance": "-1", "hue": 1.50}}
    filled = {**DELETED, "before": {"id": 7, "balance": "", "name": "", "opened_on": 10**9, "tags": None}}
    large = {**DELETED, "before": {**ROW, "name": UNAVAILABLE}}
    rows = parse(DELETED, full, filled, large)
    assert [row["_detail"] for row in rows] == [None] * 4
    assert [(row["id"], row["balance"], row["name"]) for row in rows] == [
        ("7", None, None), ("7", Decimal("-1.00"), "Ann"), ("7", None, None), ("7", Decimal("12.50"), None),
    ]  # fmt: skip
    assert json.loads(rows[1]["unknown_fields"]) == {"hue": 1.5}
    assert json.loads(rows[2]["unknown_fields"]) == {"balance": "", "name": "", "opened_on": 10**9}


def test_a_tombstone_is_of_the_row_that_the_key_names() -> None:
    keys = [KEY, json.dumps({"schema": {}, "payload": {"id": 8}}).encode(), None, b"7", b"{}", b'{"id": "x"}']
    rows = parse(*[None] * 6, keys=keys)
    assert [row["id"] for row in rows] == ["7", "8", None, None, None, None]
    assert rows[0]["event_time"] == ARRIVAL and rows[0]["change_source"] is None
    assert [row["_reason"] for row in rows] == [None, None, "tombstone", "tombstone", "tombstone", "wrong_type"]
    assert "does not have id" in rows[4]["_detail"]


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"op": None}, "missing_field", "op is missing: no change event"),
        ({"op": "x"}, "unknown_event_type", "op is 'x'"),
        ({"op": "t", "after": None}, "unknown_event_type", "the source emptied the whole table"),
        ({"op": 1}, "wrong_type", "op is 1, not a string"),
        ({"op": ["c"]}, "wrong_type", "not a string"),
        ({"after": None}, "missing_field", "after is missing or null"),
        ({"after": [1]}, "wrong_type", "after is a JSON array, not an object"),
        ({"op": "d"}, "missing_field", "before is missing or null"),
        ({"op": "d", "before": {}}, "missing_field", "id is missing or null"),
        ({"op": "d", "before": {"name": "Ann"}}, "missing_field", "id is missing or null"),
        ({"op": "d", "before": {"id": "7"}}, "wrong_type", "id is a JSON string, not a number"),
        ({"op": "d", "before": "7"}, "wrong_type", "before is a JSON string, not an object"),
        ({"source": None}, "missing_field", "source is missing or null"),
        ({"source": "x"}, "wrong_type", "source is a JSON string, not an object"),
        ({"source": {"lsn": 1}}, "missing_field", "source.ts_ms is missing"),
        ({"source": {**SOURCE, "ts_ms": "now"}}, "wrong_type", "source.ts_ms is no whole number"),
        ({"source": {**SOURCE, "ts_ms": 10**30}}, "wrong_type", "change_time is no 64-bit integer"),
        ({"source": {**SOURCE, "ts_ms": 5}}, "bad_timestamp", "before the year 2000"),
        ({"source": {**SOURCE, "ts_ms": MS + 10**9}}, "bad_timestamp", "more than a day ahead"),
        ({"source": {**SOURCE, "lsn": "0/16B3748"}}, "wrong_type", "source.lsn is '0/16B3748'"),
        ({"source": {**SOURCE, "lsn": -1}}, "wrong_type", "source.lsn is -1"),
        ({"source": {**SOURCE, "lsn": True}}, "wrong_type", "source.lsn is True"),
        ({"source": {"ts_ms": MS, "file": "binlog", "pos": 1}}, "wrong_type", "source.file is 'binlog'"),
        ({"after": {**ROW, "id": None}}, "missing_field", "id is missing or null"),
        ({"after": {**ROW, "balance": "many"}}, "wrong_type", "balance is no decimal(12,2): many"),
        ({"after": {**ROW, "balance": "-1"}}, "debt", "balance is -1"),
        ({"after": {**ROW, "name": ""}}, "bad_value", "length >= 1"),
        ({"after": {**ROW, "opened_on": 10**9}}, "wrong_type", "opened_on is a JSON number"),
        ({"after": {**ROW, "__change_time": 1}}, "bad_value", "a column __change_time"),
        ({"after": {**ROW, "name": UNAVAILABLE}}, "unavailable_value", "Set REPLICA IDENTITY FULL"),
    ],
)
def test_what_is_no_change_of_a_row_is_refused_in_words(change: dict[str, Any], reason: str, said: str) -> None:
    event = {**CREATED, **change}
    good, *rows = parse(CREATED, event, with_schema(event))
    assert good["_reason"] is None
    for row, value in zip(rows, (event, with_schema(event)), strict=True):
        assert (row["_reason"], row["_value"], row["_key"]) == (reason, json.dumps(value).encode(), KEY)
        assert said in row["_detail"]
        assert row["id"] is None and row["change_operation"] is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"), (b"{", "not_json"), (b"[]", "wrong_type"), (b"7", "wrong_type"), (b"{}", "missing_field"),
        (b"\xff", "not_json"), (b'{"payload": 7}', "wrong_type"), (b'{"payload": []}', "wrong_type"),
        (b'{"payload": {"payload": {}}}', "missing_field"), (b'{"schema": {}}', "missing_field"),
        (b"[" * 100_000, "oversized"), (b'{"op": ' + b"[" * 5_000, "not_json"), (b"x" * 10_001, "oversized"),
        (json.dumps(CREATED).encode().replace(b'"Ann"', b'"\xff"'), "not_json"),
        (json.dumps(CREATED).encode().replace(b'"postgresql"', b'"\xff"'), "not_json"),
        (json.dumps(CREATED).encode().replace(b'"Ann"', b'"\\ud800"'), "not_json"),
    ],
)  # fmt: skip
def test_hostile_bytes_have_a_reason(value: bytes, reason: str) -> None:
    (row,) = parse(value)
    assert (row["_reason"], row["_value"]) == (reason, value), row["_detail"]


def test_the_place_in_the_log_sorts_as_text_in_its_order() -> None:
    sources: list[dict[str, Any]] = [
        {"lsn": 9}, {"lsn": 10}, {"lsn": 2**63},
        {"file": "mysql-bin.000009", "pos": 99}, {"file": "mysql-bin.000010", "pos": 4, "row": 0},
        {"file": "mysql-bin.000010", "pos": 4, "row": 1}, {"file": "mysql-bin.000010", "pos": 10},
        {"commit_lsn": "00000027:00000ac0:0002", "change_lsn": None},
        {"commit_lsn": "00000027:00000AC0:0002", "change_lsn": "00000027:00000ab8:0002", "event_serial_no": 1},
        {"commit_lsn": "00000027:00000ac0:0002", "change_lsn": "00000027:00000ab8:0002", "event_serial_no": 2},
        {"commit_lsn": "00000028:00000001:0001", "change_lsn": "00000028:00000001:0001", "event_serial_no": 1},
        {}, {"lsn": None},
    ]  # fmt: skip
    rows = parse(*({**CREATED, "source": {"ts_ms": MS, **source}} for source in sources))
    assert [row["_detail"] for row in rows] == [None] * len(rows)
    places = [row["change_position"] for row in rows]
    for first, last in ((0, 3), (3, 7), (7, 11), (11, 13)):
        assert places[first:last] == sorted(set(places[first:last]))
    assert places[11:] == [f"{offset:020d}" for offset in (11, 12)], "the Kafka offset, where the source has none"


def test_times_are_the_finest_that_the_source_has() -> None:
    nanos = MS * 1_000_000 + 123_456
    fine, coarse, old = parse(
        {**CREATED, "source": {**SOURCE, "ts_us": nanos // 1_000, "ts_ns": nanos}},
        {**CREATED, "source": {**SOURCE, "ts_us": nanos // 1_000}},
        {**CREATED, "op": "r", "source": {**SOURCE, "ts_ms": 0}},
    )
    assert fine["event_time"] == coarse["event_time"] == ARRIVAL.replace(microsecond=123)
    assert old["event_time"] == ARRIVAL.replace(microsecond=9_000), "when Debezium has read it"
    (refused,) = parse({**CREATED, "source": {**SOURCE, "ts_ms": 0}})
    assert refused["_reason"] == "missing_field"


def test_a_value_that_postgres_did_not_send_is_the_former_one_where_that_is_known() -> None:
    (row,) = parse({**CREATED, "op": "u", "before": {**ROW, "name": "Old"}, "after": {**ROW, "name": UNAVAILABLE}})
    assert row["name"] == "Old"


def test_exact_decimals_are_read_by_the_schema() -> None:
    def schema(scale: str) -> dict[str, Any]:
        of_row = {
            "field": "after",
            "fields": [
                {"type": "int32", "field": "id"},
                {
                    "type": "bytes", "field": "balance", "name": "org.apache.kafka.connect.data.Decimal",
                    "parameters": {"scale": scale},
                },
            ],
        }  # fmt: skip
        return {"type": "struct", "fields": [{"field": "op"}, of_row]}

    def balance(unscaled: int, scale: str = "2") -> dict[str, Any]:
        raw = base64.b64encode(unscaled.to_bytes(5, "big", signed=True)).decode()
        return {"schema": schema(scale), "payload": {**CREATED, "after": {**ROW, "balance": raw}}}

    rows = parse(balance(1234), balance(5, "0"), balance(0), balance(12345, "3"), balance(1, "x"))
    assert [row["balance"] for row in rows[:3]] == [Decimal("12.34"), Decimal("5.00"), Decimal("0.00")]
    assert [row["_reason"] for row in rows[3:]] == ["wrong_type", "wrong_type"]


def test_a_new_column_of_the_source_is_kept() -> None:
    (row,) = parse({**CREATED, "after": {**ROW, "level": 3}})
    assert (row["_reason"], row["unknown_fields"]) == (None, '{"level":3}')


# Without what JSON does not have: such a value is no JSON at all, and its reason is another one.
finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), finite, st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from([*ROW, *CREATED, "payload", "schema", "fields"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(st.sampled_from([CREATED, DELETED]), st.dictionaries(st.sampled_from([*CREATED, "schema", "payload"]), anything))
def test_no_value_ends_the_stream(event: dict[str, Any], change: dict[str, Any]) -> None:
    broken = {**event, **change}
    rows = parse(broken, with_schema(broken), {"schema": change, "payload": broken})
    assert all((row["_reason"] is None) == (row["id"] is not None) for row in rows)


@given(st.sampled_from(list(ROW)), anything, st.booleans())
def test_no_row_ends_the_stream_and_a_delete_fails_by_its_key_alone(name: str, value: Any, is_gone: bool) -> None:
    row = {**ROW, name: value}
    (found,) = parse({**DELETED, "before": row} if is_gone else {**CREATED, "after": row})
    if is_gone and name != "id":
        assert found["_reason"] is None, found["_detail"]


@given(st.binary(max_size=30), st.binary(max_size=12))
def test_no_bytes_end_the_stream(value: bytes, key: bytes) -> None:
    (row,) = parse(value)
    assert row["_reason"] is not None
    parse(None, keys=[key])


class NoRow(Record):
    id: int
    at: int


class Taken(ChangedRow):
    id: int
    change_position: int  # type: ignore[assignment]


class Moved(ChangedRow):
    id: int
    owner: str | None = None


def build(**change: Any) -> Topic:
    return dataclasses.replace(TOPIC, rules=(), **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"record": NoRow, "event_time": EventTime("at", unit="s"), "event_type": None}, "derive it from ChangedRow"),
        ({"record": Taken}, "A column of this name is called otherwise here"),
        ({"values": ChangeEvents(key=())}, "needs the fields of the primary key"),
        ({"values": ChangeEvents(key=("id", "id"))}, "each once"),
        ({"values": ChangeEvents(key=("number",))}, "'number' in `key`, which is no field of the row"),
        ({"values": ChangeEvents(key=("change_time",))}, "which is no field of the row"),
        ({"record": Moved, "values": ChangeEvents(key=("owner",))}, "owner is of the primary key: it must be required"),
        ({"event_id": ("name",)}, "a delete may lack it"),
    ],
)
def test_a_topic_that_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TopicSpecError) as caught:
        build(**change)
    assert said in str(caught.value)
    assert build(event_id=("id", "change_position", "change_operation")).roles.event_id == "event_id"


def test_the_event_time_is_that_of_the_change() -> None:
    with pytest.raises(TopicSpecError, match="event_time of change events is CHANGE_TIME"):
        build(event_time=EventTime("name"))
    assert TOPIC.event_time == CHANGE_TIME and issubclass(Account, ChangedRow)


def test_current_rows_are_of_change_events_and_of_one_person_for_good() -> None:
    with pytest.raises(ValueError, match="has no change events"):
        build_current_rows(Topic("x", "", "x", NoRow, EventTime("at", unit="s"), values=JsonValues()))
    with pytest.raises(ValueError, match="need a subject that is of the key, and name is not"):
        build_current_rows(build(subject="name"))


def test_the_simulator_makes_no_changes() -> None:
    from jobs.simulator.by_contract.contract_topic import build_profile

    with pytest.raises(UsageError, match="changes of a database's table"):
        build_profile(TOPIC)
