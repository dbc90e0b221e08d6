"""gold.sessions: the transformation against plain Python, and what the reports over it say when there is nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from hypothesis import given

from platform_assets.streams.sessions import build_sessions
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.money_oracle import add_up
from tests.spark.report_cases import (
    HALF_HOUR,
    MICROSECOND,
    Event,
    append_events,
    event,
    events_frame,
    materialize_days,
    of_known_users,
    read_rows,
    shops,
    with_coordinates,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HALF_DAY = timedelta(hours=12)
NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)


def sessionize(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The oracle: walk over each user's sorted events."""
    by_user: dict[str, list[Event]] = defaultdict(list)
    for e in of_known_users(with_coordinates(events)):
        by_user[e["user_id"]].append(e)
    sessions: list[list[Event]] = []
    for own in by_user.values():
        own.sort(key=lambda e: (e["event_time"], e["kafka_partition"], e["kafka_offset"]))
        for index, e in enumerate(own):
            if index == 0 or e["event_time"] - own[index - 1]["event_time"] > HALF_HOUR:
                sessions.append([])
            sessions[-1].append(e)
    return [_summarize(part) for session in sessions for part in cut_at_midnights(session)]


def cut_at_midnights(session: list[Event]) -> list[list[Event]]:
    """The session, or its days if it is longer than one."""
    if session[-1]["event_time"] - session[0]["event_time"] <= timedelta(days=1):
        return [session]
    return [list(own) for _, own in groupby(session, key=lambda e: e["event_time"].astimezone(UTC).date())]


def _summarize(session: list[Event]) -> dict[str, Any]:
    start, end = session[0]["event_time"], session[-1]["event_time"]
    purchases = [e for e in session if e["event_type"] == "purchase"]
    money = add_up(purchases)
    return {
        "user_id": session[0]["user_id"],
        "session_start": start,
        "session_end": end,
        "session_date": start.date(),
        "duration_seconds": ((end - start) // MICROSECOND) / 1_000_000,
        "event_count": len(session),
        "purchase_count": len(purchases),
        "total_revenue": money.total,
        "unique_products": len(
            {e["product_id"] for e in session if e["event_type"] == "page_view" and e["product_id"] is not None}
        ),
        "device_type": session[0]["device_type"],
        "country": session[0]["country"],
        "currency": money.currency,
        "revenue_by_currency": money.by_currency,
        "purchases_without_amount": money.without_amount,
    }


def by_key(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["user_id"], row["session_start"]))


def collect(spark: SparkSession, events: Sequence[Event]) -> list[dict[str, Any]]:
    rows = [row.asDict() for row in build_sessions(events_frame(spark, events)).collect()]
    return by_key([{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in rows])


@examples(5, quick=2)
@given(shops())
def test_sessions_equal_a_walk_over_each_users_sorted_events(spark: SparkSession, events: list[Event]) -> None:
    assert collect(spark, events) == by_key(sessionize(events))


@pytest.mark.parametrize(("minutes", "days"), [(24 * 60, 1), (24 * 60 + 20, 2), (60 * 60, 4)])
def test_what_goes_on_for_longer_than_a_day_is_cut_at_midnights(spark: SparkSession, minutes: int, days: int) -> None:
    monitor = [event("monitor", NOON + timedelta(minutes=m)) for m in range(0, minutes + 1, 20)]
    rows = collect(spark, [*monitor, event("u", NOON + HALF_DAY), event("u", NOON + HALF_DAY - HALF_HOUR)])
    assert rows == by_key(sessionize([*monitor, event("u", NOON + HALF_DAY), event("u", NOON + HALF_DAY - HALF_HOUR)]))
    assert len(rows) == days + 1


@pytest.mark.parametrize(("pause", "sessions"), [(HALF_HOUR, 1), (HALF_HOUR + MICROSECOND, 2)])
def test_a_pause_of_exactly_thirty_minutes_begins_a_new_session(
    spark: SparkSession, pause: timedelta, sessions: int
) -> None:
    assert len(collect(spark, [event("u", NOON), event("u", NOON + pause)])) == sessions


def test_a_day_without_events_is_an_empty_partition_and_no_failure(lakehouse: LakehouseResource) -> None:
    append_events(lakehouse, [])
    result = materialize_days(lakehouse, "2024-02-29")
    assert result.success
    for name in ("gold.session_report", "gold.purchase_correlations"):
        assert read_rows(lakehouse, name) == []


def test_a_missing_source_table_is_one_failure_that_says_what_to_start(lakehouse: LakehouseResource) -> None:
    with pytest.raises(dg.Failure, match=r"does not exist at .* Start the stream group"):
        materialize_days(lakehouse, "2024-02-29")
