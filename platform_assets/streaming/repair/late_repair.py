"""Repairs the streams' tables where a watermark refused events: recomputed by the twin, replaced in one commit.

An event is repaired when the watermark has passed everything that may count it: the stream will never write these rows
again. A session that is still open then is left to the next look. Rows are recomputed from all of the source and
compared with the table's; what differs goes into the table in one commit, through the same lock as the query's own
batches, so a reader sees a session or window as it was or as it is. A crash between that commit and the event's
`repaired_at` makes the same comparison again, which then finds no difference.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import as_sql, build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.derive.query_state import QueryState, find_watermark
from platform_assets.streaming.moments import at_micros
from platform_assets.streaming.repair.expiry import Expired, find_kept_from, read_expired
from platform_assets.streaming.repair.late_pairs import TooManyPairsError, split_evenly
from platform_assets.streaming.repair.late_portions import split_by_events
from platform_assets.streaming.repair.repair_difference import compare
from platform_assets.streaming.repair.touched_rows import InterruptedReadError, TouchedRows
from platform_assets.streaming.repair.waiting_events import WaitingEvents
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.platform import EXPIRED_ROWS, LATE_EVENTS

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# A row that began on an expired day may reach so far into the days that are kept: it lacks its first events now.
_LONGEST_ROW = timedelta(days=1)
# A query's name, and the time and user of an event that was late for it.
_Waiting = tuple[str, datetime, str | None]


@dataclass(frozen=True)
class Look:
    """A stream's state, and its late events (rows of `LATE_EVENTS`) around which nothing is open any more.

    `is_cut`: there are more of them, for the next look.
    """

    stream: TableStream
    state: QueryState
    due: pa.Table
    is_cut: bool = False


class LateRepair:
    """Looks after the tables of a group. Called from one thread; `tables` are those that the queries write."""

    def __init__(
        self,
        session: SparkSession,
        streams: Sequence[TableStream],
        context: StreamContext,
        tables: Mapping[str, DeltaWriter],
    ) -> None:
        self._session = session
        self._context = context
        self._streams = streams
        self._tables = tables
        self._late = DeltaWriter(LATE_EVENTS, context)
        self._touched = TouchedRows(session, context, tables)
        # Until when what a late event belongs to is open: a session that goes on all day is not computed each minute.
        self._open_until: dict[_Waiting, datetime] = {}
        self._expired = DeltaReader(EXPIRED_ROWS, context)
        self.repaired: Counter[str] = Counter()
        """Late events that this object has repaired, by query. From any thread."""

    def look(self) -> list[Look]:
        """How far each stream's table is that has finished a batch, and what can be repaired of it. Changes nothing."""
        expired = self._read_expired()
        found = [waits for stream in self._streams if (waits := self._start(stream, expired)) is not None]
        for portion in self._read_late():
            for waits in found:
                waits.take(portion)
        return [self._finish(waits) for waits in found]

    def repair(
        self, looks: Sequence[Look], seconds: float | None = None, is_stopping: Callable[[], bool] = lambda: False
    ) -> bool:
        """Repairs what these looks have found; returns whether there was anything.

        After `seconds` (None: never) what is left waits for the next look; of each stream a portion is repaired.
        Who stops calls `interrupt`, and waits for the commit in hand only.
        """
        self._pass_over_expired()
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        found = [look for look in looks if len(look.due)]
        for look in found:
            waiting, has_repaired = deque(self._split(look)), False
            while waiting and not is_stopping() and not (has_repaired and time.monotonic() > deadline):
                portion, state = waiting.popleft(), look.state
                try:
                    closed = self._repair_portion(look.stream, portion, state.source_version, state.watermark)
                except InterruptedReadError:
                    return True
                except TooManyPairsError as error:
                    waiting.extendleft(reversed(split_evenly(portion, error.pairs)))
                else:
                    self._set_repaired(look.stream, closed)
                    has_repaired = True
        return bool(found)

    def interrupt(self) -> None:
        """Ends what a portion reads through Spark, if it does just now. From any thread; the repair then returns."""
        self._touched.interrupt()

    def _start(self, stream: TableStream, expired: Mapping[str, Expired]) -> WaitingEvents | None:
        last = Checkpoint.of(self._context, stream.main_table.name).read_last_plan()
        if last is None:
            return None
        done, plan = last
        watermark, kept_from = at_micros(find_watermark(stream, plan)), _find_repaired_from(stream, expired)
        return WaitingEvents(stream, done, plan.source["version"], watermark, kept_from, self._leave_out_open)

    def _finish(self, found: WaitingEvents) -> Look:
        table = found.stream.main_table.name
        state = QueryState(
            query=found.stream.name,
            table=table,
            watermark=found.watermark,
            pending_late_events=found.count,
            exceptions=found.name_hours(),
            batch_id=found.done,
            source_version=found.version,
            table_version=self._tables[table].version,
        )
        return Look(found.stream, state, found.due(build_arrow_schema(LATE_EVENTS)), found.is_cut)

    def _leave_out_open(self, stream: TableStream, pending: pa.Table, watermark: datetime) -> pa.Table:
        """Leaves out late events that wait for something an earlier look found open and that must still be open."""
        import pyarrow as pa

        waiting = {key for key, until in self._open_until.items() if key[0] == stream.name and watermark < until}
        if not waiting:
            return pending
        return pending.filter(pa.array([key not in waiting for key in _keys(stream, pending)], pa.bool_()))

    def _pass_over_expired(self) -> None:
        """Late events of days whose other events are gone change nothing: what counted these stays as it was."""
        import pyarrow.compute as pc

        if not (expired := self._read_expired()):
            return
        starts = [(stream, _find_repaired_from(stream, expired)) for stream in self._streams]
        over = [(stream, start) for stream, start in starts if start is not None]
        for portion in self._read_late() if over else ():
            for stream, start in over:
                is_own = (pc.field("query") == stream.name) & (pc.field("event_time") < start)
                self._set_repaired(stream, portion.filter(is_own))

    def _split(self, look: Look) -> list[pa.Table]:
        source = look.stream.source
        assert isinstance(source, TableSource)
        log = CommitLog(self._context.table_uri(source.table.name), source.time_column, self._context.storage_options)
        files, _ = log.read_table(look.state.source_version)
        return split_by_events(look.due, files)

    def _read_expired(self) -> Mapping[str, Expired]:
        return read_expired(self._expired.read_arrow().to_pylist())

    def _read_late(self) -> Iterator[pa.Table]:
        """The events of all streams that wait for their repair, in portions."""
        import pyarrow.compute as pc

        from platform_assets.delta_reader import read_portions

        dataset = self._late.read_snapshot().to_pyarrow_dataset()
        names = [column.name for column in LATE_EVENTS.columns]
        return read_portions(dataset, names, pc.field("repaired_at").is_null())

    def _repair_portion(self, stream: TableStream, late: pa.Table, version: int, watermark: datetime) -> pa.Table:
        """Repairs what these events touch; returns those of them of which nothing is open any more."""
        span = stream.span
        assert span is not None
        touched, start, end = self._touched.compute(stream, span, late, version)
        present = self._touched.read_present(stream, span, start, end, late)
        difference = compare(touched, present, late, stream, watermark)
        if len(difference.rows) or len(difference.stale):
            bounds = f"t.{span.start_column} >= {as_sql(start)} and t.{span.end_column} <= {as_sql(end)}"
            notes = {"late_events": len(late), "watermark": watermark.isoformat()}
            info = CommitInfo(CommitKind.REPAIR, stream.name, notes=notes)
            table = self._tables[stream.main_table.name]
            # A merge joins them with all rows of that time, of which a busy user has millions.
            if span.of_pairs and difference.are_new and not len(difference.stale):
                table.add(difference.rows, info)
            else:
                table.replace(difference.rows, difference.stale, bounds, info)
            publisher = KafkaPublisher(stream, self._context)
            publisher.publish(self._session, difference.rows, "repair", table.version)
            publisher.publish(self._session, difference.stale, "repair", table.version, removed=True)
        for key, until in zip(_keys(stream, difference.waiting), difference.waiting["open_until"], strict=True):
            self._open_until[key] = until.as_py()
        for key in _keys(stream, difference.closed):
            self._open_until.pop(key, None)
        return difference.closed

    def _set_repaired(self, stream: TableStream, events: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(events):
            return
        utc = pa.timestamp("us", tz="UTC")
        now = pa.repeat(pa.scalar(datetime.now(UTC), utc), len(events))
        place = events.column_names.index("repaired_at")
        rows = events.set_column(place, pa.field("repaired_at", utc), now)
        oldest = pc.min(events["event_time"]).as_py()
        bounds = f"t.query = '{stream.name}' and t.event_time >= {as_sql(oldest)}"
        self._late.put(rows, bounds, CommitInfo(CommitKind.REPAIR, stream.name))
        self.repaired[stream.name] += len(events)


def _keys(stream: TableStream, late: pa.Table) -> list[_Waiting]:
    places = zip(late["event_time"].to_pylist(), late["user_id"].to_pylist(), strict=True)
    return [(stream.name, event_time, user_id) for event_time, user_id in places]


def _find_repaired_from(stream: TableStream, expired: Mapping[str, Expired]) -> datetime | None:
    """Events before this time are not repaired: rows that count them may lack others. None: all are."""
    kept_from = find_kept_from(stream, expired)
    return None if kept_from is None else kept_from + max(_LONGEST_ROW, stream.span.longest or timedelta(0))
