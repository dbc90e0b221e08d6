"""gold.sessions: the transformation against plain Python, and the asset over real Delta tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from platform_assets.reports.daily import DayRange, pin_table
from platform_assets.reports.sessions import SESSIONS_TABLE, build_sessions, read_sessions_of_days
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import (
    HALF_HOUR,
    MICROSECOND,
    Event,
    append_events,
    event,
    events_frame,
    materialize_days,
    read_rows,
    shops,
    with_coordinates,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)


def sessionize(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The oracle: walk over each user's sorted events."""
    by_user: dict[str, list[Event]] = defaultdict(list)
    for e in with_coordinates(events):
        by_user[e["user_id"]].append(e)
    sessions: list[list[Event]] = []
    for own in by_user.values():
        own.sort(key=lambda e: (e["event_time"], e["kafka_partition"], e["kafka_offset"]))
        for index, e in enumerate(own):
            if index == 0 or e["event_time"] - own[index - 1]["event_time"] >= HALF_HOUR:
                sessions.append([])
            sessions[-1].append(e)
    return [_summarize(session) for session in sessions]


def _summarize(session: list[Event]) -> dict[str, Any]:
    start, end = session[0]["event_time"], session[-1]["event_time"]
    purchases = [e for e in session if e["event_type"] == "purchase"]
    money = [Decimal(repr(e["revenue"])).quantize(Decimal("0.01"), ROUND_HALF_UP) for e in purchases]
    return {
        "user_id": session[0]["user_id"],
        "session_start": start,
        "session_end": end,
        "session_date": start.date(),
        "duration_seconds": ((end - start) // MICROSECOND) / 1_000_000,
        "event_count": len(session),
        "purchase_count": len(purchases),
        "total_revenue": float(sum((m for m in money if m < Decimal(10) ** 16), Decimal(0))),
        "unique_products": len(
            {e["product_id"] for e in session if e["event_type"] == "page_view" and e["product_id"] is not None}
        ),
        "device_type": session[0]["device_type"],
        "country": session[0]["country"],
    }


def by_key(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["user_id"], row["session_start"]))


def collect(spark: SparkSession, events: Sequence[Event]) -> list[dict[str, Any]]:
    rows = [row.asDict() for row in build_sessions(events_frame(spark, events)).collect()]
    return by_key([{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in rows])


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(shops())
def test_sessions_equal_a_walk_over_each_users_sorted_events(spark: SparkSession, events: list[Event]) -> None:
    assert collect(spark, events) == by_key(sessionize(events))


@pytest.mark.parametrize(("pause", "sessions"), [(HALF_HOUR - MICROSECOND, 1), (HALF_HOUR, 2)])
def test_a_pause_of_exactly_thirty_minutes_begins_a_new_session(
    spark: SparkSession, pause: timedelta, sessions: int
) -> None:
    assert len(collect(spark, [event("u", NOON), event("u", NOON + pause)])) == sessions


def test_the_transformation_runs_on_a_stream(spark: SparkSession, lakehouse: LakehouseResource, tmp_path: Path) -> None:
    append_events(spark, lakehouse, [event("u", NOON), event("u", NOON + timedelta(minutes=5), "purchase")])
    append_events(spark, lakehouse, [event("closer", NOON + timedelta(days=1))], first_offset=2)
    stream = spark.readStream.format("delta").option("maxFilesPerTrigger", 1).load(lakehouse.table_uri("silver.events"))
    query = (
        build_sessions(stream.withWatermark("event_time", "10 minutes"))
        .writeStream.format("delta")
        .outputMode("append")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "sessions"))
    )
    assert query.awaitTermination(120)
    (row,) = spark.read.format("delta").load(str(tmp_path / "sessions")).collect()
    assert (row["user_id"], row["event_count"], row["purchase_count"]) == ("u", 2, 1)


def test_a_session_that_goes_on_for_days_is_whole_and_belongs_to_its_first_day(
    spark: SparkSession, lakehouse: LakehouseResource
) -> None:
    steps = 4 * 24 * 3
    events = [event("bot", NOON + timedelta(minutes=20) * i) for i in range(steps)]
    append_events(spark, lakehouse, events)
    pinned = pin_table(lakehouse, "silver.events", "")

    def read(day: datetime) -> list[Any]:
        return read_sessions_of_days(spark, pinned, DayRange(day.date(), day.date())).collect()

    (row,) = read(NOON)
    assert (row["event_count"], row["duration_seconds"]) == (steps, (steps - 1) * 20 * 60)
    assert read(NOON + timedelta(days=1)) == []


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(shops(min_users=40))
def test_days_materialized_one_by_one_in_any_order_and_twice_equal_the_whole(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    append_events(spark, lakehouse, events)
    pinned = pin_table(lakehouse, "silver.events", "")
    rows: list[dict[str, Any]] = []
    for day in ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"):
        date = datetime.fromisoformat(day).date()
        rows += [row.asDict() for row in read_sessions_of_days(spark, pinned, DayRange(date, date)).collect()]
    rows = [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in rows]
    assert by_key(rows) == by_key(sessionize(events))


def test_a_day_is_replaced_and_its_neighbours_are_left_alone(spark: SparkSession, lakehouse: LakehouseResource) -> None:
    append_events(spark, lakehouse, [event("a", NOON), event("b", NOON + timedelta(days=1))])
    materialize_days(spark, lakehouse, "2024-02-29", "2024-03-01")
    before = read_rows(lakehouse, SESSIONS_TABLE.name)
    materialize_days(spark, lakehouse, "2024-02-29")
    assert read_rows(lakehouse, SESSIONS_TABLE.name) == before

    append_events(spark, lakehouse, [event("a", NOON + timedelta(minutes=1))], first_offset=2)
    materialize_days(spark, lakehouse, "2024-02-29")
    after = read_rows(lakehouse, SESSIONS_TABLE.name)
    assert [(row["user_id"], row["event_count"]) for row in after] == [("a", 2), ("b", 1)]


def test_a_day_without_events_is_an_empty_partition_and_no_failure(
    spark: SparkSession, lakehouse: LakehouseResource
) -> None:
    append_events(spark, lakehouse, [])
    result = materialize_days(spark, lakehouse, "2024-02-29")
    assert result.success
    for name in ("gold.sessions", "gold.session_report", "gold.purchase_correlations"):
        assert read_rows(lakehouse, name) == []


def test_a_missing_source_table_is_one_failure_that_says_what_to_start(
    spark: SparkSession, lakehouse: LakehouseResource
) -> None:
    with pytest.raises(dg.Failure, match=r"silver\.events does not exist at .* Start the stream group"):
        materialize_days(spark, lakehouse, "2024-02-29")
