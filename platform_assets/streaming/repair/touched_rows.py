"""The rows that late events touch: as the twin computes them from all events, and as the table has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.repair.late_pairs import collect_pairs
from platform_assets.streaming.repair.touched_by_events import find_touched, keep_touched
from platform_assets.streaming.repair.twin import keep_users, read_events, run_twin
from platform_assets.streaming.result_span import ResultSpan, is_near, reaches_out
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext

# How far around a late event events are read at first where no bound is known (sessions): doubled while it is too near.
_FIRST_MARGIN = timedelta(hours=3)
# The tag by which Spark finds the jobs that may be ended without harm: they have not changed anything yet.
_READING = "headrace-late-repair"


class InterruptedReadError(Exception):
    """Raised when a stop has ended the reading of a portion: nothing is changed, and the next look finds it again."""


class TouchedRows:
    """Finds touched rows of a group's streams. Call it from one thread, except `interrupt`."""

    def __init__(self, session: SparkSession, context: StreamContext, tables: Mapping[str, DeltaReader]) -> None:
        self._session = session
        self._context = context
        self._tables = tables
        self._interrupted = False

    def interrupt(self) -> None:
        """Ends what `compute` reads through Spark, if it does just now. From any thread."""
        self._interrupted = True
        self._session.interruptTag(_READING)

    def compute(
        self, stream: TableStream, span: ResultSpan, late: pa.Table, version: int
    ) -> tuple[pa.Table, datetime, datetime]:
        """The twin's rows around these events, from a range of event time that holds all events of what they touch.

        Of the version that the query has read: what came later is the query's to read, and perhaps to refuse.
        """
        import pyarrow.compute as pc

        uri = self._context.table_uri(stream.source.table.name)
        first, last = (bound(late["event_time"]).as_py() for bound in (pc.min, pc.max))
        present, margin = None, span.reach
        if span.inactivity:
            margin = _FIRST_MARGIN
            present = find_touched(self._read_near(stream, span, first, last), late, stream)
            first = min([first, *present[span.start_column].to_pylist()])
            last = max([last, *present[span.end_column].to_pylist()])
        while True:
            start, end = first - margin, last + margin
            events = read_events(self._session, uri, version, start, end)
            if span.by_user:
                events = keep_users(events, span.user_column, pc.unique(late["user_id"]).to_pylist())
            near = keep_touched(run_twin(events, stream), late, stream, present)
            touched = find_touched(self._collect(near, late, of_pairs=span.of_pairs), late, stream, present)
            # Events outside may belong to a row that reaches so near to the ends of what was read.
            if not span.inactivity or not len(touched.filter(reaches_out(span, start, end))):
                return touched, start, end
            margin *= 2

    def read_present(
        self, stream: TableStream, span: ResultSpan, start: datetime, end: datetime, late: pa.Table
    ) -> pa.Table:
        """The table's rows of that time, of pairs those that these late events may be in."""
        import pyarrow.compute as pc

        inside = (pc.field(span.start_column) >= start) & (pc.field(span.end_column) <= end)
        if span.of_pairs:
            times = pc.unique(late["event_time"])
            inside &= pc.field(span.start_column).isin(times) | pc.field(span.end_column).isin(times)
        return self._tables[stream.main_table.name].read_arrow(row_filter=inside)

    def _collect(self, rows: DataFrame, late: pa.Table, *, of_pairs: bool) -> pa.Table:
        """The rows, in this process. Raises `InterruptedReadError` when `interrupt` has ended the reading."""
        self._session.addTag(_READING)
        try:
            return collect_pairs(rows, late) if of_pairs else rows.toArrow()
        except Exception as error:
            if self._interrupted:
                raise InterruptedReadError from error
            raise
        finally:
            self._session.removeTag(_READING)

    def _read_near(self, stream: TableStream, span: ResultSpan, start: datetime, end: datetime) -> pa.Table:
        return self._tables[stream.main_table.name].read_arrow(row_filter=is_near(span, start, end))
