"""The newest events, as many as the check of one run can afford: from where on they lie, and DuckDB's view of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.stream_spec import TableSource

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

# All five twins over this many events take two CPU-minutes in Spark, once an hour.
MAX_EVENTS = 10_000_000


def register_newest(
    connection: duckdb.DuckDBPyConnection, table: DeltaTable, source: TableSource, max_events: int = MAX_EVENTS
) -> datetime | None:
    """Names the newest events of the table, at its version, `events`; returns `find_start` of them."""
    from platform_assets.delta_reader import as_timestamptz, register_pinned

    def count_by(period: str, condition: str) -> list[tuple[Any, int]]:
        return connection.sql(f"SELECT {period}, count(*) FROM pinned_events WHERE {condition} GROUP BY ALL").fetchall()

    columns = build_arrow_schema(source.table)
    register_pinned(connection, "pinned_events", table, columns=columns)
    start = find_start(count_by, max_events)
    since = "true"
    if start is not None:
        (day,) = source.table.partition_columns
        register_pinned(connection, "pinned_events", table, (day, start.date(), date.max), columns)
        since = f"{source.time_column} >= {as_timestamptz(start)}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM pinned_events WHERE {since}")
    return start


def find_start(count_by: Callable[[str, str], list[tuple[Any, int]]], max_events: int) -> datetime | None:
    """The event time from which on the newest `max_events` events lie; None if these are all events.

    `count_by` counts the events that meet a condition by a period, both as SQL.
    """
    # Days first: they are partitions, and counting them reads no column. Hours only where the limit falls.
    day = _find_crossing(count_by("event_date", "true"), max_events)
    if day is None:
        return None
    hour = _find_crossing(count_by("date_trunc('hour', event_time)", f"event_date >= DATE '{day}'"), max_events)
    assert hour is not None
    found: datetime = hour.astimezone(UTC) + timedelta(hours=1)
    return found


def _find_crossing(counts: list[tuple[Any, int]], limit: int) -> Any:
    """The newest period with which more than `limit` are counted, from the newest on; None if there are fewer."""
    total = 0
    for period, count in sorted(counts, reverse=True):
        total += count
        if total > limit:
            return period
    return None
