"""Cuts sessions that go on for longer than the longest that a stream's table may have (`ResultSpan.longest`).

Spark's session windows know no length: a monitor that sends an event each minute is one session for ever, and has no
row. The rule is: where the events of one user go on without a pause for longer than the limit, each multiple of the
limit since 1970 (with a day: each midnight UTC) begins a new session. What is shorter is not cut, whatever it crosses.

Spark keeps the whole in its state, which does not grow with it, and gives one row when it ends. That row is left out of
the table. In its place, and while it goes on, the parts that are over are listed as late events, so that the repair of
late events computes them by the twin, which knows the rule, and commits them. A part is listed again after a crash, and
the repair then finds no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import as_sql, open_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.late_events import build_repairs
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.moments import EPOCH, MICROSECOND
from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.context import StreamContext

# A user with events close before and after both limits of a part, and no row closed in it, never paused.
# Who paused has a row that covers the part's beginning; a row in the part alone may be a repair's, of the part itself.
_WENT_ON = """
    SELECT user_id FROM before_start INTERSECT SELECT user_id FROM after_start
    INTERSECT SELECT user_id FROM before_end INTERSECT SELECT user_id FROM after_end
    EXCEPT (SELECT user_id FROM rows_of_start INTERSECT SELECT user_id FROM rows_between)
"""


def take_out_long(rows: pa.Table, span: ResultSpan) -> tuple[pa.Table, pa.Table]:
    """The rows that are not too long; and, to be listed, the first and the last event of those that are.

    The latter have the columns `event_time` and `user_id`. Parts between the two are found by `LongSessions`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    assert span.longest is not None
    starts, ends = rows[span.start_column], rows[span.end_column]
    is_long = pc.greater(pc.subtract(ends, starts), pa.scalar(span.longest, pa.duration("us")))
    long = rows.filter(is_long)
    times = pa.chunked_array([*long[span.start_column].chunks, *long[span.end_column].chunks], starts.type)
    own = long[span.user_column]
    users = pa.chunked_array([*own.chunks] * 2, own.type)
    return rows.filter(pc.invert(is_long)), pa.table({"event_time": times, "user_id": users})


class LongSessions:
    """Lists the parts that are over of sessions that go on. For one stream with a longest session, from one thread."""

    def __init__(self, stream: TableStream, context: StreamContext) -> None:
        assert stream.span.longest is not None
        self._stream, self._span, self._longest = stream, stream.span, stream.span.longest
        self._source = stream.source
        self._context = context
        self._late = DeltaWriter(LATE_EVENTS, context)
        self._looked_until: datetime | None = None

    def list_parts(self, watermark: datetime) -> int:
        """Lists the parts that have come to their end since the last look; returns how many.

        Call it before the watermark is written to `platform.complete_until`: from there a new process knows how far
        the last one had looked.
        """
        since = self._looked_until or self._read_looked_until()
        found = 0
        for start in self._find_starts(since, watermark):
            users = self._find_users(start)
            if users:
                self._list(start - MICROSECOND, users)
                found += len(users)
        self._looked_until = watermark
        return found

    def _read_looked_until(self) -> datetime | None:
        uri = self._context.table_uri(COMPLETE_UNTIL.name)
        state = read_complete_until(uri, self._stream.name, self._context.storage_options)
        return None if state is None else state["watermark"]

    def _find_starts(self, since: datetime | None, watermark: datetime) -> list[datetime]:
        """The starts of the parts that have ended: the table's partitions have events at both their limits."""
        # What follows a limit by the pause must have been read, and what was closed before it be in the table.
        settled = 2 * self._span.inactivity
        events = open_table(self._context.table_uri(self._source.table.name), self._context.storage_options)
        (column,) = self._source.table.partition_columns
        days = {partition[column] for partition in events.partitions()}
        if not days:
            return []
        first = datetime.fromisoformat(min(days)).replace(tzinfo=UTC) if since is None else since - settled
        ends = range((first - EPOCH) // self._longest + 1, (watermark - settled - EPOCH) // self._longest + 1)
        limits = (EPOCH + number * self._longest for number in ends)
        return [
            end - self._longest
            for end in limits
            if {f"{moment:%Y-%m-%d}" for moment in (end, end - MICROSECOND, end - self._longest - MICROSECOND)} <= days
        ]

    def _find_users(self, start: datetime) -> Sequence[str]:
        """Users who went on from before the part's start until after its end, and have no row between the two."""
        import duckdb

        events, table = (
            open_table(self._context.table_uri(name), self._context.storage_options)
            for name in (self._source.table.name, self._stream.main_table.name)
        )
        pause, end, user = self._span.inactivity, start + self._longest, self._span.user_column
        (day,) = self._stream.main_table.partition_columns
        # One thread: the streams have the others.
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET timezone = 'UTC'")
            for name, first in (
                ("before_start", start - pause), ("after_start", start), ("before_end", end - pause), ("after_end", end)
            ):  # fmt: skip
                last = first + pause - MICROSECOND
                register_pinned(connection, f"{name}_events", events, (self._source.time_column, first, last))
                connection.execute(
                    f'CREATE TEMP TABLE {name} AS SELECT DISTINCT "{user}" AS user_id FROM {name}_events '
                    f"WHERE is_anonymous IS NOT TRUE "
                    f"AND {self._source.time_column} BETWEEN {as_timestamptz(first)} AND {as_timestamptz(last)}"
                )
            days = ((start - self._longest).date(), end.date())
            register_pinned(connection, "rows", table, (day, *days))
            for name, until, since in (("rows_between", end, start), ("rows_of_start", start, start - pause)):
                connection.execute(
                    f'CREATE TEMP TABLE {name} AS SELECT DISTINCT "{user}" AS user_id FROM rows '
                    f"WHERE {self._span.start_column} < {as_timestamptz(until)} "
                    f"AND {self._span.end_column} >= {as_timestamptz(since)}"
                )
            return [user for (user,) in connection.sql(_WENT_ON).fetchall()]

    def _list(self, moment: datetime, users: Sequence[str]) -> None:
        import pyarrow as pa

        times = pa.array([moment] * len(users), pa.timestamp("us", tz="UTC"))
        events = pa.table({"event_time": times, "user_id": pa.array(users, pa.string())})
        rows = build_repairs(self._stream, events, datetime.now(UTC))
        bounds = f"t.query = '{self._stream.name}' and t.event_time = {as_sql(moment)}"
        self._late.put(rows, bounds, CommitInfo(CommitKind.LONG_SESSIONS, self._stream.name))
