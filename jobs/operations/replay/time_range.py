"""Replays some hours or days: the stream's twin recomputes what is final there, and replaces it.

Rows that are final follow from their events alone. So the live stream need not stop but for the commit.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobs.operations.replay.comparison import Comparison, compare_rows
from jobs.operations.replay.row_replay import ReplayScope, RowReplay
from platform_assets.errors import NotReadyError, UsageError
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.repair.expiry import find_expired, find_kept_from
from platform_assets.streaming.repair.table_difference import read_pending, select_columns, select_final
from platform_assets.streaming.repair.twin import read_events, run_twin
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource


class RangeReplay(RowReplay[TableStream]):
    """Replays one stream over a table by event time. `scope.offsets` is for streams over Kafka."""

    def __init__(
        self, stream: TableStream, context: StreamContext, lakehouse: LakehouseResource, scope: ReplayScope
    ) -> None:
        super().__init__(stream, context, lakehouse, f"headrace replay {stream.name} --range")
        self._source = stream.source
        self._span = stream.span
        kept_from = find_kept_from(stream, find_expired(lakehouse))
        # What has expired is not recomputed, and what followed from it stays as it is.
        since = max((time for time in (scope.since, kept_from) if time is not None), default=None)
        self._scope = replace(scope, since=since)
        if scope.offsets:
            source = stream.source.table.name
            raise UsageError(f"Offsets are Kafka's, and {stream.name} reads {source}: name --since and --until.")

    def describe(self) -> str:
        """See `RowReplay`."""
        if self._stream.is_latest:
            name = self._stream.name
            raise UsageError(f"Rows of {name} are of no time range. Replay all: headrace replay {name} --swap")
        _, until = self._find_end()
        since = f"begin at {self._scope.since:%Y-%m-%d %H:%M:%S} UTC or later and " if self._scope.since else ""
        return f"rows that {since}are final at {until:%Y-%m-%d %H:%M:%S} UTC"

    def _find_end(self) -> tuple[dict[str, Any], datetime]:
        """How far the table is final (row of `COMPLETE_UNTIL`), and where the scope ends. Raises `UsageError`."""
        name, since = self._stream.main_table.name, self._scope.since
        uri = self._context.table_uri(COMPLETE_UNTIL.name)
        state = read_complete_until(uri, self._stream.name, self._context.storage_options)
        complete = None if state is None else state["complete_until"]
        if state is None or complete is None or (since is not None and since >= complete):
            said = "nothing yet" if complete is None else f"only what ends until {complete:%Y-%m-%d %H:%M:%S} UTC"
            raise NotReadyError(f"Of {name} {said} is final. Name an earlier range, or wait.")
        return state, min(self._scope.until or complete, complete)

    def _compare(self, session: SparkSession) -> Comparison:
        state, until = self._find_end()
        # Whether a session is cut, its whole length says.
        longest = self._span.longest or timedelta(0)
        since, margin = self._scope.since, self._span.longest_open + longest
        start = None if since is None else since - margin
        source = self._context.table_uri(self._source.table.name)
        twin = run_twin(read_events(session, source, state["source_version"], start, until + longest), self._stream)
        spec = self._stream.main_table
        live = select_columns(session.read.format("delta").load(self._context.table_uri(spec.name)), spec.columns)
        late = read_pending(session, self._context.table_uri(LATE_EVENTS.name), self._stream, state["updated_at"])
        twin, live = (self._select(rows, late, until) for rows in (twin, live))
        return compare_rows(session, self._stream, twin, live, self._difference, until)

    def _fix_of_doubled(self) -> str:
        return f"Replay the whole: headrace replay {self._stream.name} --swap"

    def _select(self, rows: DataFrame, late: DataFrame, until: datetime) -> DataFrame:
        from pyspark.sql import functions as F

        if self._scope.since is not None:
            rows = rows.where(F.col(self._span.start_column) >= F.lit(self._scope.since))
        return select_final(rows, late, self._stream, until)
