"""Old rows go by a policy: they are not missed, the streams go on, and nothing makes anything of their absence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from jobs.operations.explain import explain
from jobs.operations.replay.kafka_range import KafkaReplay
from jobs.operations.replay.row_replay import ReplayScope
from platform_assets.checks.hop_ledger import build_hop_ledger_checks
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.streaming.stream_spec import select_derived, select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.spark.test_parity import run_check

STREAMS = {stream.name: stream for stream in load_streams()}
(EVENTS_STREAM,) = select_ingest(load_streams())
NAMES = ("events", "sessions", "revenue_by_category")
DERIVED = [stream for stream in select_derived(load_streams()) if stream.name in NAMES]
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
# Events of a shop that is open for a quarter of an hour: two users, a view and a purchase each, three times.
OF_ONE_DAY = 12


def day(days_ago: int) -> datetime:
    return NOON - timedelta(days=days_ago)


def build(at: datetime, user: str, kind: str) -> bytes:
    event = {
        "event_id": f"{user}/{at.isoformat()}/{kind}", "event_type": kind, "timestamp": at.isoformat(), "user_id": user,
        "product_id": "p", "category": "toys", "revenue": 60.0 * (kind == "purchase"),
    }  # fmt: skip
    return json.dumps(event).encode()


def open_shop(days_ago: int) -> list[bytes]:
    times = [day(days_ago) + timedelta(minutes=5 * number) for number in range(3)]
    return [build(at, user, kind) for at in times for user in ("ann", "bob") for kind in ("page_view", "purchase")]


@pytest.fixture
def streams(spark: Any, kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> StreamsUnderTest:
    """Four days of the last forty, read while everything was kept."""
    settings = Settings(home=tmp_path / "home", kafka_bootstrap_servers="", publish=False)
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    found = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    found.send([*(event for days_ago in (40, 20, 3, 1) for event in open_shop(days_ago)), b"not JSON"])
    found.drain(*NAMES)
    return found


def keep(streams: StreamsUnderTest, **days: int) -> StreamsUnderTest:
    """The same with a policy for these tables, `silver_events` for silver.events."""
    policy = {name.replace("_", ".", 1): number for name, number in days.items()}
    return replace(streams, context=replace(streams.context, retention_days=policy))


def lakehouse_of(streams: StreamsUnderTest) -> LakehouseResource:
    return LakehouseResource(root=streams.context.lakehouse_root)


def audit(streams: StreamsUnderTest) -> Audit:
    return audit_stream(EVENTS_STREAM, lakehouse_of(streams), streams.kafka)


def run_hop_checks(streams: StreamsUnderTest) -> list[dg.AssetCheckResult]:
    verdicts = []
    for check in build_hop_ledger_checks(DERIVED):
        verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse_of(streams)}))
        assert isinstance(verdict, dg.AssetCheckResult)
        verdicts.append(verdict)
    return verdicts


def prove_sound(streams: StreamsUnderTest, expired: int) -> None:
    found = audit(streams)
    assert (found.breaches, found.totals["expired"]) == ((), expired)
    for verdict in run_hop_checks(streams):
        assert verdict.passed, verdict.description
    for stream in DERIVED:
        verdict = run_check(streams.session, Path(streams.context.lakehouse_root), stream.name)
        assert verdict.passed and verdict.metadata["compared_rows"].value, verdict.description


def count_days(streams: StreamsUnderTest, table: str, column: str) -> dict[int, int]:
    """Rows by how many days ago they were."""
    found = streams.rows(table, f"select {column}::date as day, count(*)::int as number from t group by all")
    return {(NOON.date() - row["day"]).days: row["number"] for row in found}


def test_what_has_expired_is_not_missed_and_nothing_is_made_of_its_absence(streams: StreamsUnderTest) -> None:
    sessions = streams.rows("gold.sessions", "from t order by all")
    revenue = count_days(streams, "gold.revenue_by_category", "window_start")
    kept = keep(streams, silver_events=30, gold_revenue_by_category=10, silver_quarantined_events=5)
    kept.drain(*NAMES)
    assert count_days(kept, "silver.events", "event_time") == dict.fromkeys((20, 3, 1), OF_ONE_DAY)
    assert kept.rows("gold.sessions", "from t order by all") == sessions and sessions
    own = count_days(kept, "gold.revenue_by_category", "window_start")
    assert own == {days_ago: rows for days_ago, rows in revenue.items() if days_ago <= 10} != revenue
    prove_sound(kept, OF_ONE_DAY)
    place = f"{streams.topic}/0/0"
    said = explain([STREAMS[name] for name in NAMES], lakehouse_of(kept), kept.kafka, offset=place)
    assert "It has expired if its day is over (silver.events before" in said[0]

    # Late events: of a day that is over, and of one that is kept.
    kept.send([build(day(40) + timedelta(minutes=7), "ann", "purchase"), build(day(3), "eve", "purchase")])
    kept.drain(*NAMES)
    assert count_days(kept, "silver.events", "event_time") == {20: OF_ONE_DAY, 3: OF_ONE_DAY + 1, 1: OF_ONE_DAY}
    after = kept.rows("gold.sessions", "from t order by all")
    assert [row for row in after if row["user_id"] != "eve"] == sessions and len(after) == len(sessions) + 1
    assert {row["repaired_at"] is None for row in kept.rows("platform.late_events")} == {False}
    prove_sound(kept, OF_ONE_DAY + 1)


def test_rows_that_somebody_has_deleted_by_hand(streams: StreamsUnderTest) -> None:
    kept = keep(streams, silver_events=10)
    events = DeltaTable(streams.context.table_uri("silver.events"))
    events.delete(f"event_date < '{day(10).date()}'")
    events.vacuum(0, dry_run=False, enforce_retention_duration=False)
    kept.drain(*NAMES)
    prove_sound(kept, 2 * OF_ONE_DAY)
    by = {row["removed_by"] for row in kept.rows("platform.expired_rows") if row["rows"]}
    assert by == {"somebody"}

    DeltaTable(streams.context.table_uri("silver.events")).delete(f"event_date = '{day(3).date()}'")
    kept.drain(*NAMES)
    [breach] = audit(kept).breaches
    assert breach.startswith(f"{OF_ONE_DAY} of {3 * OF_ONE_DAY} records in no table are lost, the others have expired")
    assert not any(verdict.passed for verdict in run_hop_checks(kept))
    replay = KafkaReplay(EVENTS_STREAM, kept.context, lakehouse_of(kept), kept.kafka, DERIVED, ReplayScope())
    found = replay.compare(kept.session)
    assert any(note.startswith(f"{2 * OF_ONE_DAY} records are of days that have expired") for note in found.notes)
    replay.swap(kept.session)
    kept.drain(*NAMES)
    assert audit(kept).breaches == ()
    assert count_days(kept, "silver.events", "event_time") == dict.fromkeys((3, 1), OF_ONE_DAY)
