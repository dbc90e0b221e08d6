"""The check `event_time`: what it says of clocks that are right, ahead, behind, and of time that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from platform_assets.checks.event_time import EventTimeLimits, build_event_time_checks, find_standstill
from platform_assets.checks.parity import build_parity_checks
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, commit_metadata
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

(INGEST,) = select_ingest(load_streams())
SESSIONS = next(stream for stream in load_streams() if stream.name == "sessions")
MINUTE = timedelta(minutes=1)


def write_events(
    root: Path, leads: list[timedelta], arrival: datetime, frontier: datetime | None = None, partition: int = 0
) -> None:
    """One commit with an event for each lead: by how much it is dated after it was sent, which was when it arrived."""
    rows = [
        {
            "event_id": f"{arrival}{n}", "event_type": "page_view", "event_time": arrival + lead, "user_id": f"u{n}",
            "kafka_partition": partition, "kafka_timestamp": arrival, "ingested_at": arrival,
            "event_date": (arrival + lead).date(), "is_anonymous": n == 0,
        }
        for n, lead in enumerate(leads)
    ]  # fmt: skip
    info = CommitInfo.of_batch(
        "events", "app", 0,
        frontier={"frontier": None if frontier is None else round(frontier.timestamp() * 1e6)},
        arrival_micros=round(arrival.timestamp() * 1e6), rows_by_type={"page_view": len(rows)},
    )  # fmt: skip
    write_deltalake(
        root / "silver/events", pa.Table.from_pylist(rows, build_arrow_schema(EVENTS)), mode="append",
        partition_by=["event_date"], commit_properties=CommitProperties(custom_metadata=commit_metadata(info)),
    )  # fmt: skip


def run_check(root: Path) -> dg.AssetCheckResult:
    (check,) = build_event_time_checks([INGEST], EventTimeLimits())
    resources = {"lakehouse": LakehouseResource(root=str(root)), "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_a_shop_that_is_punctual_passes(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    assert run_check(tmp_path).passed
    write_events(tmp_path, [timedelta(seconds=-1)] * 10, now - MINUTE, now - MINUTE)
    verdict = run_check(tmp_path)
    assert verdict.passed, verdict.description
    assert "1.0 s before they were sent" in str(verdict.description)
    assert (verdict.metadata["events"].value, verdict.metadata["anonymous_events"].value) == (10, 1)


@pytest.mark.parametrize(
    ("ahead", "severity"), [(1, dg.AssetCheckSeverity.WARN), (9, dg.AssetCheckSeverity.ERROR)], ids=["some", "most"]
)
def test_clocks_that_are_ahead_are_named_by_partition(
    tmp_path: Path, ahead: int, severity: dg.AssetCheckSeverity
) -> None:
    now = datetime.now(UTC)
    write_events(tmp_path, [timedelta(0)] * 10, now - MINUTE, now - MINUTE)
    leads = [timedelta(hours=2)] * ahead + [timedelta(0)] * (10 - ahead)
    write_events(tmp_path, leads, now - MINUTE, now, partition=1)
    verdict = run_check(tmp_path)
    assert (verdict.passed, verdict.severity) == (False, severity)
    assert f"partition 1: half of 10 events are dated {'7,200.0' if ahead > 5 else '0.0'} s after" in str(
        verdict.description
    )
    assert f"{ahead / 10:.1%} more than five minutes after" in str(verdict.description)
    assert "HEADRACE_TOPIC_TIME_ZONE" in str(verdict.description)


def test_time_that_stands_still_while_events_come_fails(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for minutes in (50, 30, 10):
        write_events(tmp_path, [timedelta(hours=-5)] * 3, now - minutes * MINUTE, now - 50 * MINUTE)
    verdict = run_check(tmp_path)
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "Events have come for 0:40:00 while time stands at" in str(verdict.description)


def test_a_table_that_older_code_wrote_without_a_column_of_today_is_judged(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    write_events(tmp_path / "new", [timedelta(0)] * 3, now - MINUTE, now - MINUTE)
    rows = DeltaTable(tmp_path / "new/silver/events").to_pyarrow_table().drop_columns(["is_anonymous"])
    write_deltalake(tmp_path / "old/silver/events", rows, partition_by=["event_date"])
    verdict = run_check(tmp_path / "old")
    assert (verdict.passed, verdict.metadata["anonymous_events"].value) == (True, 0)


def test_silence_is_no_standstill() -> None:
    hour = 3_600_000_000

    def batch(frontier: int, arrival: int, rows_by_type: dict[str, int]) -> CommitInfo:
        return CommitInfo.of_batch(
            "events", "app", 0, frontier={"frontier": frontier}, arrival_micros=arrival, rows_by_type=rows_by_type
        )

    moved, before = batch(2 * hour, 2 * hour, {"purchase": 1}), batch(hour, hour, {"purchase": 1})
    empty = [batch(2 * hour, n * hour, {}) for n in (9, 8)]
    assert find_standstill([*empty, moved, before])[0] == timedelta(0)
    assert find_standstill([CommitInfo(CommitKind.REPAIR, "sessions")])[0] == timedelta(0)


def test_parity_says_when_nothing_becomes_final_though_events_come(tmp_path: Path) -> None:
    (check,) = build_parity_checks([SESSIONS], "duckdb")
    resources = {"lakehouse": LakehouseResource(root=str(tmp_path)), "duckdb": DuckDBResource(memory_mib=128)}

    def verdict() -> dg.AssetCheckResult:
        found = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(found, dg.AssetCheckResult)
        return found

    now = datetime.now(UTC)
    write_events(tmp_path, [timedelta(0)] * 3, now - 5 * MINUTE)
    assert verdict().passed
    write_events(tmp_path, [timedelta(0)] * 3, now - timedelta(hours=2))
    assert not verdict().passed
    assert "Nothing of the table is final, though events have come since" in str(verdict().description)
