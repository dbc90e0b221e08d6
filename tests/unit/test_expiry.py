"""What a policy takes out of a table, and what is written down of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.operations.replay.row_replay import ReplayScope
from jobs.operations.replay.time_range import RangeReplay
from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import Entry
from platform_assets.checks.ledger_places import Places
from platform_assets.errors import SettingError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.repair.expiry import Expiry, check_policy, find_expired, find_kept_from, read_expired
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams
from platform_assets.tables.platform import EXPIRED_ROWS
from platform_assets.tables.spec import TableSpec
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings

STREAMS = {stream.name: stream for stream in load_streams()}
(SESSIONS_STREAM,) = (stream for stream in select_derived(load_streams()) if stream.name == "sessions")
EVENTS, QUARANTINED, _ = STREAMS["events"].tables
REVENUE = STREAMS["revenue_by_category"].main_table
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)


def append(table: DeltaBatchWriter, spec: TableSpec, number: int, days_ago: list[int], column: str) -> None:
    times = [NOW - timedelta(days=days) for days in days_ago]
    rows = [{column: moment, "event_date": moment.date()} for moment in times]
    names = {c.name for c in spec.columns}
    own = [{name: value for name, value in row.items() if name in names} for row in rows]
    table.append(pa.Table.from_pylist(own, build_arrow_schema(spec)), CommitInfo.of_batch("q", "app", number))


def expire(context: StreamContext, table: DeltaWriter, spec: TableSpec, days: int, now: datetime = NOW) -> set[str]:
    kept = replace(context, retention_days={spec.name: days})
    return Expiry(list(STREAMS.values()), {spec.name: table}, kept).run(now)


def account_of(context: StreamContext) -> list[tuple[int | None, date, int | None, str | None]]:
    rows = DeltaTable(context.table_uri(EXPIRED_ROWS.name)).to_pyarrow_table().to_pylist()
    found = [(row["version"], row["until_day"], row["rows"], row["removed_by"]) for row in rows]
    return sorted(found, key=lambda row: (row[0] is not None, row[0] or 0))


def days_of(context: StreamContext, spec: TableSpec, column: str) -> list[int]:
    rows = DeltaTable(context.table_uri(spec.name)).to_pyarrow_table().to_pylist()
    return sorted((NOW - row[column]).days for row in rows)


@pytest.mark.parametrize(
    ("spec", "column"), [(EVENTS, "event_time"), (REVENUE, "window_start"), (QUARANTINED, "quarantined_at")]
)
def test_whole_days_go_and_are_counted(context: StreamContext, spec: TableSpec, column: str) -> None:
    table = DeltaBatchWriter(spec, context)
    append(table, spec, 0, [1, 9, 10, 11, 12], column)
    append(table, spec, 1, [0, 12], column)
    assert expire(context, table, spec, 10) == {spec.name}
    assert days_of(context, spec, column) == [0, 1, 9, 10]
    bound = TODAY - timedelta(days=10)
    assert account_of(context) == [(None, bound, None, None), (3, bound, 3, "retention")]
    assert expire(context, table, spec, 10) == set(), "nothing is left to do"
    # A longer policy brings nothing back, and the days stay over.
    assert expire(context, table, spec, 20) == set()
    assert account_of(context)[0][1] == bound


def test_a_table_of_years_is_not_emptied_at_once(context: StreamContext) -> None:
    table = DeltaBatchWriter(EVENTS, context)
    append(table, EVENTS, 0, [0, 100, 90, 60, 50, 20], "event_time")
    left = []
    while expire(context, table, EVENTS, 10):
        left.append(len(days_of(context, EVENTS, "event_time")))
    assert left == [4, 2, 1]
    assert sum(rows or 0 for _, _, rows, _ in account_of(context)) == 5


def test_a_table_without_a_policy_keeps_all(context: StreamContext) -> None:
    table = DeltaBatchWriter(EVENTS, context)
    append(table, EVENTS, 0, [0, 1000], "event_time")
    assert Expiry(list(STREAMS.values()), {EVENTS.name: table}, context).run(NOW) == set()
    assert len(days_of(context, EVENTS, "event_time")) == 2 and account_of(context) == []


def test_what_was_removed_before_a_crash_is_written_down_by_the_next(
    context: StreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = DeltaBatchWriter(EVENTS, context)
    append(table, EVENTS, 0, [0, 12], "event_time")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Expiry, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            expire(context, table, EVENTS, 10)
    assert days_of(context, EVENTS, "event_time") == [0]
    expire(context, DeltaBatchWriter(EVENTS, context), EVENTS, 10)
    assert account_of(context)[1:] == [(2, TODAY - timedelta(days=10), 1, "retention")]


def test_rows_of_such_days_that_somebody_deletes_count_too(context: StreamContext) -> None:
    table = DeltaBatchWriter(EVENTS, context)
    append(table, EVENTS, 0, [0, 1, 20, 20, 21], "event_time")
    by_hand = DeltaTable(context.table_uri(EVENTS.name))
    by_hand.delete(f"event_date <= '{TODAY - timedelta(days=20)}'")
    by_hand.delete(f"event_date = '{TODAY - timedelta(days=1)}'")
    by_hand.vacuum(0, dry_run=False, enforce_retention_duration=False)
    expire(context, table, EVENTS, 10)
    assert account_of(context)[1:] == [(2, TODAY - timedelta(days=10), 3, "somebody")]


def test_from_when_on_rows_follow_from_events_that_are_there() -> None:
    def look(name: str, day: date) -> dict[str, Any]:
        return {"table_name": name, "version": None, "until_day": day, "rows": None}

    sessions = SESSIONS_STREAM
    assert find_kept_from(sessions, {}) is None
    expired = read_expired([look(EVENTS.name, TODAY), {**look(EVENTS.name, TODAY), "version": 7, "rows": 5}])
    assert find_kept_from(sessions, expired) == datetime(2026, 3, 31, 0, 30, tzinfo=UTC)
    assert (expired[EVENTS.name].count(6, 7), expired[EVENTS.name].count(7, 9)) == (5, 0)
    later = read_expired([look(sessions.main_table.name, TODAY + timedelta(days=1))])
    assert find_kept_from(sessions, expired | later) == datetime(2026, 4, 1, tzinfo=UTC)


def test_a_replay_of_a_range_leaves_out_what_has_expired(context: StreamContext) -> None:
    table = DeltaBatchWriter(EVENTS, context)
    append(table, EVENTS, 0, [0, 12], "event_time")
    expire(context, table, EVENTS, 10)
    lakehouse = LakehouseResource(root=context.lakehouse_root)
    assert find_expired(lakehouse)[EVENTS.name].until == TODAY - timedelta(days=10)
    replay = RangeReplay(SESSIONS_STREAM, context, lakehouse, ReplayScope())
    assert replay._scope.since == datetime(2026, 3, 21, 0, 30, tzinfo=UTC)


def test_the_setting_is_read_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(retention_days={"silver.events": 3}).retention_days == {"silver.events": 3}
    check_policy(STREAMS.values(), {"silver.events": 3, "gold.sessions": 9})
    with pytest.raises(SettingError, match=r"silver\.event is no table"):
        check_policy(STREAMS.values(), {"silver.event": 3})
    for bad in ('{"silver.events": 0}', '{"silver.events": "x"}', "365"):
        monkeypatch.setenv("HEADRACE_RETENTION_DAYS", bad)
        load_settings.cache_clear()
        with pytest.raises(SettingError, match=r"HEADRACE_RETENTION_DAYS|retention_days"):
            load_settings()
    load_settings.cache_clear()


def places(present: list[int]) -> Places:
    found = Places([Entry("a", 0, "t", 0, 0, 400, 400, 400, 0, 0, ())], Losses(()))
    offsets = pa.array(present, pa.int64())
    rows = pa.table({"topic": ["t"] * len(present), "kafka_partition": pa.array([0] * len(present), pa.int32())})
    found.add_rows("accepted", rows.append_column("kafka_offset", offsets))
    return found


def test_one_sentence_says_what_is_in_no_table() -> None:
    assert places(list(range(399))).find_breaches({}) == ["t/0/399 is lost: no table."]
    [said] = places(list(range(300, 400))).find_breaches({})
    assert said == "t/0/0 is lost: no table. So are 299 others: t/0/1, t/0/2, t/0/3, t/0/4 and so on."
    assert places(list(range(300, 400))).find_breaches({}, expired=300) == []
    [said] = places(list(range(301, 400))).find_breaches({}, expired=300)
    assert said.startswith("1 of 301 records in no table are lost, the others have expired")
    [said] = places(list(range(299, 400))).find_breaches({}, expired=300)
    assert "others have come back" in said


def test_a_record_that_was_re_ingested_and_expired_twice_is_one_record() -> None:
    mark = {"topic": "t", "kafka_partition": 0, "kafka_offset": 7, "requeued_at": NOW}
    found = places([n for n in range(400) if n != 7])
    found.discount([mark], "requeued_at")
    assert found.find_breaches({}, expired=2) == []
    found = places(list(range(400)))
    found.discount([mark], "requeued_at")
    assert found.find_breaches({}, expired=1) == [], "it is in one place of two"
