"""How long until Kafka deletes what is unread: by time, by size, at the present rates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from platform_assets.checks.time_to_loss import HOURS_TO_LOSS, Backlog, judge, time_to_loss

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def hours(age_hours: float, **values: float | None) -> float | None:
    backlog = {"held_before": None, "read_rate": 0.0, "produced_rate": 100.0} | values
    left = time_to_loss(Backlog(NOW - timedelta(hours=age_hours), **backlog), NOW, WEEK)  # type: ignore[arg-type]
    return None if left is None else left.total_seconds() / 3600


def test_a_stream_that_stands_still_has_what_retention_leaves() -> None:
    assert hours(168 - 5) == pytest.approx(5)
    assert hours(200) == 0


def test_a_stream_that_reads_as_fast_as_the_log_grows_loses_nothing() -> None:
    assert hours(160, read_rate=100.0) is None
    assert hours(160, read_rate=500.0) is None


def test_a_stream_that_falls_behind_slowly_has_longer() -> None:
    """It reads half of what comes: the edge gains half an hour an hour."""
    assert hours(158, read_rate=50.0) == pytest.approx(20)


def test_a_log_that_does_not_grow_is_lost_by_the_clock_unless_it_is_read() -> None:
    assert hours(158, produced_rate=0.0) == pytest.approx(10)
    assert hours(158, produced_rate=0.0, read_rate=20.0) is None


def test_a_limit_of_size_counts_where_it_bites_first() -> None:
    assert hours(1, held_before=360_000, produced_rate=100.0) == pytest.approx(1)
    assert hours(1, held_before=360_000, produced_rate=100.0, read_rate=50.0) == pytest.approx(2)


def test_without_a_limit_of_time_only_size_counts() -> None:
    backlog = Backlog(NOW - timedelta(days=400), None, 0.0, 100.0)
    assert time_to_loss(backlog, NOW, None) is None


@pytest.mark.parametrize(
    ("left", "passed", "severity"),
    [
        ([30.0, None], True, dg.AssetCheckSeverity.ERROR),
        ([30.0, 23.0], False, dg.AssetCheckSeverity.WARN),
        ([3.9, 23.0], False, dg.AssetCheckSeverity.ERROR),
        ([], True, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_the_verdict_is_that_of_the_partition_in_most_danger(
    left: list[float | None], passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    times = {n: None if value is None else timedelta(hours=value) for n, value in enumerate(left)}
    found = judge(times, "shop")
    assert (found.passed, found.severity) == (passed, severity)
    assert passed or "shop/" in (found.description or "")
    said = found.metadata.get(HOURS_TO_LOSS)
    assert (None if said is None else said.value) == min((value for value in left if value is not None), default=None)
