"""Windows close when they should: with skewed partitions, with clocks that are wrong, and when nothing happens."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from jobs.operations.reset_time import reset_time
from platform_assets.checks.event_time import EventTimeLimits, build_event_time_checks
from platform_assets.errors import NotReadyError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import Stream, StreamGroup, select_derived, select_ingest
from platform_assets.streams import load_streams
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
MINUTE = timedelta(minutes=1)
OVER_EVENTS = tuple(stream.name for stream in select_derived(load_streams()))
OF_ALL = pytest.param(OVER_EVENTS, marks=pytest.mark.long, id="all")

Build = Callable[..., StreamsUnderTest]


def purchase(number: int, at: datetime, user_id: str = "u", **fields: Any) -> bytes:
    body = {"event_id": f"e{number}", "event_type": "purchase", "timestamp": at.isoformat(), "user_id": user_id}
    return json.dumps(body | {"category": "toys", "product_id": "p", "revenue": 1.0} | fields).encode()


@pytest.fixture
def build(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Build:  # fmt: skip
    """The group looks for silence twice a second: with its own five seconds the tests would mostly wait."""
    monkeypatch.setattr("platform_assets.streaming.engine.group_maintenance._IDLE_LOOK_SECONDS", 0.5)
    return lambda **overrides: StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(3), **overrides)


def wait_until(condition: Callable[[], bool], group: QueryGroup, paused: frozenset[str] = frozenset()) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert (failure := group.failure()) is None, failure
        group.reconcile(paused)
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.2)


def closed_until(group: QueryGroup, name: str) -> datetime:
    """The watermark with which the stream's last batch ran."""
    progress = group.progress().get(name)
    watermark = None if progress is None else progress.watermark
    return datetime.fromisoformat(watermark) if watermark else datetime.min.replace(tzinfo=UTC)


def at_once(streams: list[Stream]) -> list[Stream]:
    """The streams with short triggers."""
    return [dataclasses.replace(stream, trigger_seconds=1.0) for stream in streams]


@pytest.mark.parametrize("names", [("revenue_by_category",), OF_ALL])
def test_a_backlog_cut_over_skewed_partitions_loses_no_window(build: Build, names: tuple[str, ...]) -> None:
    """Two hours: partition 0 holds nine tenths of it, so that capped batches are far apart in event time."""
    streams = build(max_offsets_per_trigger=60)
    start, numbers = NOW - timedelta(hours=2), iter(range(10_000))
    streams.send((purchase(next(numbers), start + 12 * timedelta(seconds=n)) for n in range(540)), partition=0)
    streams.send((purchase(next(numbers), start + 3 * MINUTE * n) for n in range(36)), partition=1)
    streams.send((purchase(next(numbers), start + 5 * MINUTE * n) for n in range(22)), partition=2)
    streams.drain("events", *names)

    assert streams.rows("platform.late_events") == []
    (found,) = streams.rows("gold.revenue_by_category", "select sum(purchase_count)::int as n from t")
    assert found["n"] == 2 * next(numbers)  # each purchase lies in two windows
    batches = streams.rows("silver.events", "select count(distinct ingested_at)::int as n from t")
    assert batches[0]["n"] >= 9, "the backlog was not cut"


@pytest.mark.long
def test_an_event_dated_ahead_closes_nothing_for_the_others(build: Build) -> None:
    streams = build()
    streams.send([purchase(1, NOW - 9 * MINUTE), purchase(2, NOW + timedelta(hours=20), user_id="ahead")])
    streams.drain()
    streams.send([purchase(3, NOW - 8 * MINUTE), purchase(4, NOW - MINUTE / 2)])
    streams.drain()

    assert streams.rows("platform.late_events") == []
    windows = streams.rows("gold.revenue_by_category", "select window_start, purchase_count from t")
    assert {row["window_start"] for row in windows} >= {NOW + timedelta(hours=20), NOW - 9 * MINUTE}


@pytest.mark.parametrize("names", [("revenue_by_category",), OF_ALL])
def test_what_waits_behind_an_open_transaction_is_on_time_when_it_comes(build: Build, names: tuple[str, ...]) -> None:
    """Its records are two hours old by then, and other partitions have gone on."""
    streams, began = build(), NOW - timedelta(hours=2)
    streams.send([purchase(0, began)], partition=1)
    streams.drain("events", *names)
    streams = dataclasses.replace(streams, context=dataclasses.replace(streams.context, close_windows=True))
    producer = streams.kafka.producer(transactional_id=streams.topic)
    producer.init_transactions(30)
    producer.begin_transaction()
    sent_at = int((began + MINUTE).timestamp() * 1000)
    producer.produce(streams.topic, purchase(1, began + MINUTE), partition=0, timestamp=sent_at)
    producer.flush(30)
    streams.send((purchase(n, began + n * MINUTE) for n in range(2, 120)), partition=1)
    streams.drain("events", *names)
    for row in streams.rows("platform.complete_until"):
        assert row["complete_until"] is None or row["complete_until"] <= began + MINUTE
    producer.commit_transaction(30)
    streams.drain("events", *names)

    assert streams.rows("platform.late_events") == []
    for row in streams.rows("platform.complete_until"):
        assert row["complete_until"] > NOW - timedelta(hours=1)


@pytest.mark.parametrize("names", [("sessions", "revenue_by_category"), OF_ALL])
def test_a_silent_shop_has_its_sessions_closed_and_what_comes_after_is_repaired(
    build: Build, names: tuple[str, ...]
) -> None:
    streams = build(idle_timeout_seconds=2.0)
    began = NOW - timedelta(hours=3)
    streams.send([purchase(1, began), purchase(2, began + MINUTE)])
    used = [stream for stream in load_streams() if stream.name in ("events", *names)]
    group = QueryGroup(streams.session, at_once(used), streams.context)
    group.start()
    try:
        # Each query closes with a batch of its own: what comes while one has not closed is not late for that one.
        wait_until(lambda: all(closed_until(group, name) > NOW - timedelta(hours=1) for name in names), group)
        assert len(streams.rows("gold.sessions")) == 1
        streams.send([purchase(3, began + 2 * MINUTE)], partition=1)
        wait_until(lambda: len(streams.rows("platform.late_events")) == len(names), group)
    finally:
        group.stop(30)
    streams.drain("events", *names)
    (session,) = streams.rows("gold.sessions")
    assert (session["event_count"], session["session_end"]) == (3, began + 2 * MINUTE)
    assert {row["repaired_at"] is not None for row in streams.rows("platform.late_events")} == {True}


def test_a_query_that_was_paused_while_the_others_closed_closes_too(build: Build) -> None:
    """It meets all marks in one batch, which moves its watermark and closes nothing."""
    streams = build(idle_timeout_seconds=2.0)
    began = NOW - timedelta(hours=3)
    streams.send([purchase(1, began), purchase(2, began + MINUTE)])
    used = [stream for stream in load_streams() if stream.name in ("events", "revenue_by_category", "sessions")]
    group = QueryGroup(streams.session, at_once(used), streams.context)
    paused = frozenset({"sessions"})
    group.start(paused=paused)
    try:
        wait_until(lambda: closed_until(group, "revenue_by_category") > NOW - timedelta(hours=1), group, paused)
        assert streams.rows("gold.sessions") == []
        wait_until(lambda: len(streams.rows("gold.sessions")) == 1, group)
    finally:
        group.stop(30)


def test_records_that_are_no_news_do_not_keep_windows_open(build: Build) -> None:
    """Heartbeats, tombstones, an event that is sent again and again, and stragglers of yesterday."""
    streams = build(idle_timeout_seconds=2.0)
    began = NOW - timedelta(hours=3)
    streams.send([purchase(1, began), purchase(2, began + MINUTE)])
    used = [stream for stream in load_streams() if stream.name in ("events", "sessions")]
    group = QueryGroup(streams.session, at_once(used), streams.context)
    group.start()

    def pulse(number: int) -> list[bytes | None]:
        straggler = purchase(1000 + number, NOW - timedelta(days=1) + number * MINUTE, user_id=f"s{number}")
        return [b'{"heartbeat": 1}', None, purchase(1, began), straggler]

    try:
        with streams.sending(pulse):
            wait_until(lambda: began in {row["session_start"] for row in streams.rows("gold.sessions")}, group)
    finally:
        group.stop(30)


def test_where_all_clocks_are_ahead_time_goes_on(build: Build) -> None:
    streams = build()
    for part in range(2):
        events = (purchase(100 * part + n, NOW + timedelta(hours=2), user_id=f"u{n}") for n in range(20))
        streams.send(events)
        streams.drain("events", "revenue_by_category")
    (state,) = streams.rows("platform.complete_until")
    # The time at which they were sent: the tests before this one may have taken longer than that.
    assert state["complete_until"] is not None
    assert abs(state["complete_until"] - datetime.now(UTC)) < timedelta(minutes=10)


def test_time_that_a_clock_ahead_has_brought_too_far_is_set_back(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = build()
    asked = dataclasses.replace(streams, context=dataclasses.replace(streams.context, close_windows=True))
    names = ("events", "revenue_by_category")
    streams.send([purchase(n, NOW - n * MINUTE) for n in range(1, 60)])
    ahead = time.time_ns() + 3 * 3600 * 10**9
    with monkeypatch.context() as clock:
        clock.setattr("platform_assets.streaming.engine.group_maintenance.time.time_ns", lambda: ahead)
        asked.drain(*names)
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    verdict = check_event_time(lakehouse)
    assert not verdict.passed and "headrace reset-time" in str(verdict.description)

    streams.let_go_of_state()
    group = StreamGroup("clickstream", tuple(stream for stream in load_streams() if stream.name in names))
    settings = Settings(home=Path(streams.context.lakehouse_root).parent, lakehouse=streams.context.lakehouse_root)
    [found] = reset_time(group, settings)
    assert found.streams == ("revenue_by_category",) and NOW - 2 * MINUTE < found.now < found.before
    [again] = reset_time(group, settings)
    assert again.streams == found.streams, "cut short, it is called again"
    assert check_event_time(lakehouse).passed
    streams.send([purchase(100, NOW)])
    streams.drain(*names)
    with pytest.raises(NotReadyError, match="as far as its events have brought it"):
        reset_time(group, settings)
    assert streams.rows("platform.late_events") == []
    sums = streams.rows("gold.revenue_by_category", "select sum(purchase_count)::int as n from t")
    assert sums == [{"n": 60 * 2}], "each event lies in two windows"


def check_event_time(lakehouse: LakehouseResource) -> dg.AssetCheckResult:
    (check,) = build_event_time_checks(select_ingest(load_streams()), EventTimeLimits())
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


@pytest.mark.long
def test_a_bounded_run_closes_by_the_clock_only_when_asked(build: Build) -> None:
    streams = build()
    streams.send([purchase(1, NOW - timedelta(hours=3))])
    streams.drain()
    assert streams.rows("gold.sessions") == []
    asked = dataclasses.replace(streams, context=dataclasses.replace(streams.context, close_windows=True))
    asked.drain()
    assert len(streams.rows("gold.sessions")) == 1
