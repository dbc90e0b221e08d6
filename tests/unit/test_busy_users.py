"""The check `busy_users`: who has more than a share of a day's events, without a word of who it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.checks.busy_users import BusyUserLimits, build_busy_users_checks
from platform_assets.private_rows import shown_rows
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams import load_streams
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

TODAY = datetime.now(UTC).date()
LIMITS = BusyUserLimits(share=0.2, events=10)


def write_day(root: Path, day: date, counts: Mapping[str, int], anonymous: str = "guest") -> None:
    """Writes this many events of each user."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = [
        {"event_time": at, "event_date": day, "user_id": user, "is_anonymous": user == anonymous}
        for user, count in counts.items()
        for _ in range(count)
    ]
    table = pa.Table.from_pylist(rows, build_arrow_schema(EVENTS))
    write_deltalake(root / "silver/events", table, mode="append", partition_by=["event_date"])


def run_check(root: Path, limits: BusyUserLimits = LIMITS) -> dg.AssetCheckResult:
    (check,) = build_busy_users_checks(load_streams(), limits)
    resources = {"lakehouse": LakehouseResource(root=str(root)), "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_no_event_passes(tmp_path: Path) -> None:
    assert run_check(tmp_path).passed


def test_a_user_above_the_share_is_a_warning_that_does_not_name_it(tmp_path: Path) -> None:
    write_day(tmp_path, TODAY, {"user-shared": 30, "guest": 50, "user-a": 20, "user-b": 9})
    with shown_rows() as shown:
        verdict = run_check(tmp_path)
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdict.metadata["busy_users"].value == 1
    assert f"has 30 of {TODAY} (28%)" in str(verdict.description)
    assert "user-shared" not in str(verdict)
    assert [row["user_id"] for _, row in shown] == ["user-shared"]


@pytest.mark.parametrize(("share", "events", "passes"), [(0.2, 30, False), (0.3, 30, True), (0.2, 31, True)])
def test_a_busy_user_has_more_than_the_share_and_enough_events(
    tmp_path: Path, share: float, events: int, passes: bool
) -> None:
    write_day(tmp_path, TODAY, {"user-shared": 30, **{f"user-{n}": 9 for n in range(8)}})
    assert run_check(tmp_path, BusyUserLimits(share, events)).passed == passes


# A test that begins before midnight may end after it: two days ahead are ahead then, too.
def test_only_the_newest_two_days_count_and_those_ahead_of_the_clock_do_not(tmp_path: Path) -> None:
    others = {f"user-{n}": 9 for n in range(9)}
    for days, counts in ((-9, {"busy": 90}), (-3, others), (-2, others), (2, {"busy": 90})):
        write_day(tmp_path, TODAY + timedelta(days=days), counts)
    assert run_check(tmp_path).passed
    write_day(tmp_path, TODAY - timedelta(days=2), {"busy": 90})
    assert not run_check(tmp_path).passed
