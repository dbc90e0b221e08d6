"""Which older day's rows are compared with a stream's rule next to the newest ones: each in its turn, one an hour.

The day's rows follow from its events and those around it, so the table is held against these alone, as if its watermark
had come no further: what is final then stays as it is, but for what a late event's repair has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.streaming.delta.delta_tables import build_arrow_schema

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

    from platform_assets.streaming.stream_spec import TableStream

_ONE_DAY = timedelta(days=1)
# Days of too many events are passed over, but not a year of them an hour.
_DAYS_TRIED = 10


@dataclass(frozen=True)
class OlderDay:
    """A day, and from when until when the events lie that its rows follow from."""

    day: date
    since: datetime
    until: datetime


def choose_day(
    stream: TableStream, events: DeltaTable, before: datetime, kept_from: datetime | None, now: datetime,
    max_events: int,
) -> OlderDay | None:  # fmt: skip
    """A day whose rows were final before `before`, by the turn of the hour, with at most this many events around it.

    `events` at its version. None: there is no such day among those tried. Nothing from before `kept_from` is there.
    """
    counts = _count_events(events)
    days = [
        found
        for day in sorted(counts)
        if (found := _surround(stream, day)).until <= before and (kept_from is None or found.since >= kept_from)
    ]
    turn = int(now.astimezone(UTC).timestamp() // 3600) % max(1, len(days))
    for found in (days[turn:] + days[:turn])[:_DAYS_TRIED]:
        around = (count for day, count in counts.items() if found.since.date() <= day <= found.until.date())
        if sum(around) <= max_events:
            return found
    return None


def register_day(
    connection: duckdb.DuckDBPyConnection, events: DeltaTable, stream: TableStream, found: OlderDay
) -> None:
    """Names the events from which the day's rows follow `events`."""
    source = stream.source
    (day,) = source.table.partition_columns
    bounds = (day, found.since.date(), found.until.date())
    register_pinned(connection, "pinned_events", events, bounds, build_arrow_schema(source.table))
    inside = (
        f"{source.time_column} >= {as_timestamptz(found.since)} AND {source.time_column} <= "
        f"{as_timestamptz(found.until)}"
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM pinned_events WHERE {inside}")


def _surround(stream: TableStream, day: date) -> OlderDay:
    start = datetime.combine(day, time(), UTC)
    until = start + _ONE_DAY + stream.span.longest_open
    return OlderDay(day, start - stream.span.comparable_after, until)


def _count_events(events: DeltaTable) -> dict[date, int]:
    """The table's events by day, as its log has them."""
    import pyarrow as pa

    files = pa.table(events.get_add_actions(flatten=True)).to_pydict()
    (column,) = events.metadata().partition_columns
    counts: dict[date, int] = {}
    for day, count in zip(files[f"partition.{column}"], files["num_records"], strict=True):
        if day is not None:
            counts[day] = counts.get(day, 0) + (count or 0)
    return counts
