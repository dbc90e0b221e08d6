"""What a group does besides its queries: history, upkeep, repair of late events, marks while the shop is silent."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.errors import HeadraceError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.changed_days import ChangedDays
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.long_sessions import LongSessions
from platform_assets.streaming.derive.query_state import QueryState, as_rows, find_watermark
from platform_assets.streaming.engine.periodic_work import PeriodicWork, Task
from platform_assets.streaming.engine.query_errors import classify_failure
from platform_assets.streaming.engine.table_upkeep import TableUpkeep
from platform_assets.streaming.engine.topic_ends import TopicEnds
from platform_assets.streaming.ledgers.alert_history import AlertHistory
from platform_assets.streaming.ledgers.history_days import HistoryDays
from platform_assets.streaming.ledgers.hop_ledger import HopLedger
from platform_assets.streaming.ledgers.ledger_days import LedgerDays
from platform_assets.streaming.ledgers.platform_tables import HistoryWriter
from platform_assets.streaming.moments import EPOCH, MICROSECOND
from platform_assets.streaming.progress import lag_of, next_offsets_of, read_progresses
from platform_assets.streaming.repair.expiry import Expiry
from platform_assets.streaming.repair.late_repair import LateRepair, Look
from platform_assets.streaming.stream_spec import KafkaStream, select_downstream
from platform_assets.streaming.topic_snapshot import HeldRecords, UnreadRecords
from platform_assets.tables.platform import COMPLETE_UNTIL, HOP_LEDGER

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.engine.kafka_query import KafkaQuery
    from platform_assets.streaming.engine.table_query import TableQuery

# Forgetting a user after years touches windows of hundreds of days: repair is cut into slices, so that history and
# upkeep do not wait for all of it.
_REPAIR_SECONDS = 60.0
# A window closes at most this much later than the idle timeout says.
_IDLE_LOOK_SECONDS = 5.0


class GroupMaintenance:
    """Maintains a group. Call `start` and `stop` once if it goes on; a bounded run calls `finish` and `stop` only."""

    def __init__(
        self,
        session: SparkSession,
        ingest: Sequence[KafkaQuery],
        derived: Sequence[TableQuery],
        context: StreamContext,
    ) -> None:
        self._session = session
        self._context = context
        self._ingest = ingest
        self._derived = derived
        self._queries: list[KafkaQuery | TableQuery] = [*ingest, *derived]
        streams = [query.stream for query in self._queries]
        derived_streams = [query.stream for query in derived]
        self._history = HistoryWriter(context, [query.stream for query in ingest], self._queries[0].name)
        self._ledger_days = [
            LedgerDays(context, [query.stream.name for query in ingest]),
            LedgerDays(context, [query.stream.name for query in derived], HOP_LEDGER),
        ]
        self._history_days = HistoryDays(context)
        self._alert_history = AlertHistory(context)
        self._hops = HopLedger(
            derived_streams, context, has_executors=not str(session.sparkContext.master).startswith("local")
        )
        self._changed_days = ChangedDays([stream.main_table for stream in streams], context)
        self._upkeep = TableUpkeep(streams, context)
        written = {name: table for query in self._queries for name, table in query.tables.items()}
        self._expiry = Expiry(streams, written, context)
        tables = {query.stream.main_table.name: query.table for query in derived}
        self._repair = LateRepair(session, derived_streams, context, tables)
        self._complete_until = DeltaWriter(COMPLETE_UNTIL, context)
        self._long = {
            stream.name: LongSessions(stream, context) for stream in derived_streams if stream.span.longest is not None
        }
        self._states: list[QueryState] = []
        # Each mark should meet a batch of its own in every query: one moves its watermark, the next one's batch closes.
        longest_trigger = max((stream.trigger_seconds or 0.0 for stream in streams), default=0.0)
        self._mark_seconds = max(context.idle_timeout_seconds or 0.0, 2 * longest_trigger)
        self._began_at = time.monotonic()
        self._marked_at: dict[str, float] = {}
        self._ends = {query.name: TopicEnds(query.writer.fetch_ends, query.ingest.fetch_times) for query in ingest}
        self._work: PeriodicWork | None = None

    @property
    def held(self) -> dict[str, HeldRecords]:
        """What waited behind open transactions at the last look, by the stream that is to read it. From any thread."""
        return {name: ends.held for name, ends in self._ends.items()}

    @property
    def unread(self) -> dict[str, UnreadRecords]:
        """What was not read at the last look, by the stream that is to read it, if that is known. From any thread."""
        return {name: ends.unread for name, ends in self._ends.items() if ends.unread is not None}

    @property
    def late_pending(self) -> dict[str, int]:
        """Late events that wait for their repair, by query, as of the last look. From any thread."""
        return {state.query: state.pending_late_events for state in self._states}

    @property
    def late_repaired(self) -> Mapping[str, int]:
        """Late events that were repaired since this object was made, by query. From any thread."""
        return self._repair.repaired

    @property
    def error(self) -> HeadraceError | None:
        """What ended the maintenance of the group; None while all is well."""
        return None if self._work is None else self._work.error

    def start(self) -> None:
        """Starts the thread."""
        tasks = [
            Task(self._context.upkeep_seconds, self._look_after_tables),
            Task(_IDLE_LOOK_SECONDS, self._advance_idle_frontier),
            *(Task(self._context.upkeep_seconds, follow) for follow in self._context.followers),
        ]
        self._work = PeriodicWork(tasks, lambda text: classify_failure("history", text, self._context))
        self._work.start()

    def repair(self, seconds: float | None = None) -> None:
        """Repairs what came late and can be repaired, for at most `seconds`, and writes `platform.complete_until`."""
        # The thread takes the pool along: records come before repairs.
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", "repair")
        looks = self._look()
        # Before the repairs too: a reader that waits until a table is final must not wait a minute for them.
        self._write_states(looks)
        while self._repair.repair(looks, seconds, self._is_stopping):
            is_cut, looks = any(look.is_cut for look in looks), self._look()
            self._write_states(looks)
            if seconds is not None or not is_cut or self._is_stopping():
                break

    def _is_stopping(self) -> bool:
        return self._work is not None and self._work.is_stopping

    def _look(self) -> Sequence[Look]:
        """How far the tables are, after all parts of endless sessions are listed that are over by then.

        Never further: from what is written of a look a new process takes what was listed.
        """
        looks = self._repair.look()
        while self._list_long(looks):
            looks = self._repair.look()
        return looks

    def _list_long(self, looks: Sequence[Look]) -> bool:
        """Has parts of endless sessions listed that are over; returns whether there were any."""
        found = [
            self._long[look.stream.name].list_parts(look.state.watermark)
            for look in looks
            if look.stream.name in self._long and look.state.watermark > EPOCH
        ]
        return any(found)

    def _write_states(self, looks: Sequence[Look]) -> None:
        states = [look.state for look in looks]
        if states != self._states:
            self._complete_until.put(as_rows(states), "true", CommitInfo(CommitKind.COMPLETE_UNTIL))
            self._states = states

    def complete_until(self) -> dict[str, str]:
        """What this object has last written into `platform.complete_until`, by query, ISO-8601. From any thread."""
        return {state.query: state.watermark.isoformat() for state in self._states if state.watermark > EPOCH}

    def mark_read(self) -> None:
        """Marks at the end of a bounded run over Kafka that all that was sent before it is read.

        Unless some of it waited behind an open transaction: then nothing is marked.
        """
        for query in self._ingest:
            if (visible_at := self._ends[query.name].find_visible()) is not None:
                query.writer.advance_idle_frontier(visible_at)

    def interrupt(self) -> None:
        """Ends what may be ended without harm, and begins nothing new: `stop` follows."""
        if self._work is not None:
            self._work.begin_stop()
            self._repair.interrupt()

    def stop(self, timeout_seconds: float) -> None:
        """Ends the work in hand, within the timeout, and writes the last of the history."""
        if self._work is not None:
            self._work.stop(timeout_seconds, self._repair.interrupt)
        if self.error is None:
            from deltalake.exceptions import DeltaError

            try:
                self._write_history()
            except DeltaError as error:
                raise classify_failure("history", str(error), self._context) from error

    def _write_history(self) -> None:
        spark_queries = [spark_query for query in self._queries for spark_query in query.spark_queries]
        self._history.write(spark_queries)
        self._hops.write(spark_queries)
        self._changed_days.write()

    def finish(self, repair_seconds: float | None) -> None:
        """Does once, at the end of a bounded run, all that a group that goes on does periodically.

        Raises `HeadraceError`.
        """
        self.repair(repair_seconds)
        # Before the upkeep: a commit must not be removed from a log before it is accounted for.
        self._write_history()
        self._remove_expired()
        self._shorten_history()
        for _ in range(2):
            self._upkeep.run()
        for follow in self._context.followers:
            follow()

    def _remove_expired(self) -> None:
        """Removes rows of days that are kept no longer, as many as one round does, and writes them down."""
        for name in self._expiry.run(datetime.now(UTC)):
            self._upkeep.note_replaced(name)

    def _shorten_history(self) -> None:
        """Rolls up the ledgers' days that are over, and removes history that is kept no longer."""
        now = datetime.now(UTC)
        for days in self._ledger_days:
            if days.roll_up(now):
                self._upkeep.note_replaced(days.name)
        for name in self._history_days.remove(now) | self._alert_history.remove(now):
            self._upkeep.note_replaced(name)

    def _look_after_tables(self) -> None:
        self._write_history()
        self._remove_expired()
        self._shorten_history()
        self._upkeep.run()
        # After a crash under load the first batches are the largest ones: at 2,000 events/s repairs at the same time
        # made a join's first batch take three minutes.
        if not any(query.is_at_first_batch() for query in self._queries):
            self.repair(_REPAIR_SECONDS)

    def _advance_idle_frontier(self) -> None:
        for query in self._ingest:
            self._look_at_topic(query)
        timeout = self._context.idle_timeout_seconds
        for query in self._ingest:
            writer = query.writer
            # A query that is paused does not see what is unread.
            if timeout is None or not query.is_active:
                continue
            reports = read_progresses(query.spark_queries[-1])
            if not reports or lag_of(reports[-1]) != 0:
                continue
            # What could be read when the trigger began is read, also when it had a batch, of heartbeats perhaps. That
            # was all that had been sent before the last look at which nothing waited behind an open transaction.
            looked_at = self._ends[query.name].find_visible(_micros_of(reports[-1]))
            # This uses the steady clock: one that was ahead, and is set right, would make a silence hours long.
            now = time.monotonic()
            since_moved = now - (writer.moved_at_seconds or self._began_at)
            since_marked = now - self._marked_at.get(query.name, 0.0)
            if looked_at is None or since_moved < timeout or since_marked < self._mark_seconds:
                continue
            latest = writer.read_latest_event()
            if latest is not None and self._is_any_open(query.stream, latest):
                self._marked_at[query.name] = time.monotonic()
                writer.advance_idle_frontier(looked_at)

    def _look_at_topic(self, query: KafkaQuery) -> None:
        ends = self._ends[query.name]
        ends.look()
        reports = [report for each in query.spark_queries[-1:] for report in read_progresses(each)]
        if reports and (next_offsets := next_offsets_of(reports[-1])) is not None:
            ends.compare(next_offsets)

    def _is_any_open(self, stream: KafkaStream, latest_event_micros: int) -> bool:
        """Whether a running query over the stream's table has not closed all that the latest event may be part of.

        Asked of the checkpoints, and not counted in marks: a query that starts late, was paused or is busy meets
        several marks in one batch, which moves its watermark and closes nothing.
        """
        downstream = select_downstream([stream], [query.stream for query in self._derived])
        for query in self._derived:
            if not query.is_active or query.stream not in downstream:
                continue
            last = Checkpoint.of(self._context, query.stream.main_table.name).read_last_plan()
            closes = 0 if last is None else find_watermark(query.stream, last[1])
            if closes < latest_event_micros + query.stream.span.longest_open // MICROSECOND:
                return True
        return False


def _micros_of(report: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(report["timestamp"]).timestamp() * 1_000_000)
