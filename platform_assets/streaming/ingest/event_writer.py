"""Writes each micro-batch of Kafka records into accepted, quarantined and deduplicated rows, exactly once.

Records of forgotten users come into none of them: only their coordinates are written down.

One Spark job a batch reads Kafka, parses, and writes files into the tables' folders (`record_files`). The driver gets
the files and a few numbers a record, by which it decides what is a duplicate and what the ledger says; then each table
gets its files in a commit of its own. The main table commits last and carries the batch's ledger, so "the batch is
done" is one atomic fact. A crash anywhere before it leads to a replay of the same offsets with the same verdicts, in
which tables that have the batch already are left alone. The commit also carries the frontier that the streams over the
table go by.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from platform_assets.errors import LostOffsetsError
from platform_assets.streaming.arrow_messages import unpack
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint, PlannedBatch
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.reader import DeltaReader, create_stream_table
from platform_assets.streaming.frontier import Frontier
from platform_assets.streaming.ingest.batch_ledger import VERDICTS, Verdicts, build_batch_commit, build_entries
from platform_assets.streaming.ingest.judged_records import JudgedBatch, find_contested
from platform_assets.streaming.ingest.kafka_clock import KafkaClock
from platform_assets.streaming.ingest.lost_checkpoint import find_recorded_offsets
from platform_assets.streaming.ingest.lost_ranges import (
    LostRange,
    describe,
    find_acknowledged_offsets,
    find_lost_ranges,
)
from platform_assets.streaming.ingest.open_transactions import OpenTransactions
from platform_assets.streaming.ingest.read_tasks import plan_tasks
from platform_assets.streaming.ingest.record_files import BatchOrder, WrittenRecords, run_tasks
from platform_assets.streaming.ingest.record_numbers import (
    number_nothing,
)
from platform_assets.streaming.ingest.repeated_records import RepeatFinder
from platform_assets.streaming.progress import count_rows
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.tables.platform import ERASED_RECORDS, LOST_RANGES, REQUEUED_RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.checkpoint.checkpoint import TopicOffsets
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.formats.registered_schema import SchemaSource
    from platform_assets.streaming.stream_spec import KafkaStream
    from platform_assets.streaming.topic_snapshot import Ends

_UNRESOLVED = "unresolved_schemas"
_log = logging.getLogger(__name__)


class EventWriter:
    """`BatchWriter` of a stream over Kafka. Keeps the recent ids and the frontier between batches."""

    def __init__(self, spec: KafkaStream, context: StreamContext) -> None:
        self._query, self._topic = spec.name, spec.topic
        self._checkpoint = Checkpoint.of(context, spec.main_table.name)
        self._tables = {table.name: DeltaBatchWriter(table, context) for table in spec.tables}
        self._events, self._quarantined, self._deduplicated = self._tables.values()
        self._lost = DeltaReader(LOST_RANGES, context)
        self._erased = DeltaBatchWriter(ERASED_RECORDS, context)
        self._forgotten = Register(context).names
        # Of a batch without records, the columns of its numbers.
        self._nothing = number_nothing(spec.topic, with_hashes=context.deduplication_horizon_micros is not None)
        create_stream_table(REQUEUED_RECORDS, context)
        self._ingest = context.ingest[spec.name]
        self._topic_id = ""
        self._clock = KafkaClock(self._ingest.fetch_ends or dict)
        self._open = None
        if self._ingest.fetch_ends is not None and self._ingest.fetch_times is not None:
            self._open = OpenTransactions(self._clock.fetch_ends, self._ingest.fetch_times)
        self._context = context
        self._horizon_micros = context.deduplication_horizon_micros if spec.topic.roles.event_id is not None else None
        self._repeats = RepeatFinder(spec.topic, self._events, self._horizon_micros)
        self._max_offsets = context.max_offsets_per_trigger
        self._frontier: Frontier | None = None
        self._moved_at: float | None = None
        self._working = threading.Lock()
        self.verdicts: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
        """Records of the batches that this object has written, by what became of them. From any thread."""

    @property
    def tables(self) -> Mapping[str, DeltaBatchWriter]:
        """See `BatchWriter`."""
        return self._tables

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`."""
        with self._working:
            self._write(batch_df, batch_id)

    def find_recorded_offsets(self, topic: str, partitions: Sequence[int]) -> TopicOffsets | None:
        """The offsets after the last commit, or after what was acknowledged as lost since: see `lost_checkpoint`."""
        side = {
            "quarantined_at": self._quarantined, "deduplicated_at": self._deduplicated, "arrived_at": self._erased,
        }  # fmt: skip
        return find_recorded_offsets(self._events, side, self._lost, topic, partitions)

    def has_any_of(self, batch_id: int, txn_app_id: str) -> bool:
        """Whether a table has the batch's rows: then it must run again with the very same records."""
        tables = (*self._tables.values(), self._erased)
        newest = (table.committed_batch(txn_app_id) for table in tables)
        return any(committed is not None and committed >= batch_id for committed in newest)

    def check_held(self, topic: str, next_offsets: Mapping[int, int], *, is_new_checkpoint: bool) -> None:
        """Raises `LostOffsetsError` if Kafka no longer holds what is read next, and names it. Call before a start."""
        if self._ingest.fetch_held is None:
            return
        held = self._ingest.fetch_held()
        self._topic_id = held.topic_id
        last = self._events.read_last_batch()
        read_topic_id = None if last is None else last.topic_id
        if is_new_checkpoint and find_acknowledged_offsets(self._lost.read_arrow().to_pylist(), last, topic):
            read_topic_id = None  # the new checkpoint has read nothing of the new topic, nor of the old one
        if lost := find_lost_ranges(topic, next_offsets, read_topic_id, held):
            raise LostOffsetsError(describe(lost))

    @property
    def moved_at_seconds(self) -> float | None:
        """When the newest batch was written whose events moved the frontier (`time.monotonic`); None: none has yet.

        Heartbeats, tombstones, repeated and late events do not: for the windows that are open they are silence.
        """
        return self._moved_at

    def fetch_ends(self) -> Ends | None:
        """Both ends of each Kafka partition; None while Kafka does not answer, {} where nobody can ask it."""
        return self._clock.fetch_ends()

    def read_latest_event(self) -> int | None:
        """The latest event time, microseconds; None before the first event. From any thread."""
        return self._read_frontier().latest_event

    def advance_idle_frontier(self, read_until_micros: int) -> None:
        """Moves the frontier up to a moment at which no record was unread. From any thread; skipped during a batch.

        One commit without rows; none before the first event, nor where the frontier is as far. Where this host's clock
        is far ahead of Kafka's, that moment is taken by Kafka's.
        """
        if not self._working.acquire(blocking=False):
            return
        try:
            frontier = self._read_frontier()
            if frontier.latest_event is None:
                return
            marked = frontier.mark(self._bound(read_until_micros))
            if marked != frontier:
                self._events.mark(CommitInfo(CommitKind.MARK, query=self._query, frontier=marked.as_json()))
                self._frontier = marked
        finally:
            self._working.release()

    def _bound(self, micros: int) -> int:
        bound = self._clock.bound(micros)
        if bound != micros:
            ahead = timedelta(seconds=(micros - bound) // 1_000_000)
            _log.warning(
                "The clock of this host is %s ahead of what the records of the topic say it is. While the topic is "
                "silent, time follows the records' clock. Set the clocks of this host and of the producers.", ahead,
            )  # fmt: skip
        return bound

    def _read_frontier(self) -> Frontier:
        if self._frontier is None:
            self._frontier = Frontier.parse(self._events.read_last_frontier())
        return self._frontier

    def _write(self, batch_df: DataFrame, batch_id: int) -> None:
        planned = self._checkpoint.read_planned_batch(batch_id)
        app = self._checkpoint.read_txn_app_id(self._query)
        held_since = self._find_held_since(planned)
        session = batch_df.sparkSession
        # The batch's own frame is Spark's way to read the same ranges: nobody runs it.
        tasks = plan_tasks(planned.ranges, session.sparkContext.defaultParallelism)
        schemas = self._find_schemas(batch_id, app)
        written = self._read_alike(planned, schemas, lambda order: run_tasks(session, order, tasks))
        rows, value_bytes = sum(task.count for task in written), sum(task.value_bytes for task in written)
        count_rows(self._checkpoint.read_generation() or "", batch_id, rows, value_bytes)
        self._check_topic(planned)
        self._write_tables(self._judge(written, planned), planned, app, held_since, session)

    def _read_alike(
        self, planned: PlannedBatch, schemas: SchemaSource | None,
        run: Callable[[BatchOrder], Sequence[WrittenRecords]],
    ) -> Sequence[WrittenRecords]:  # fmt: skip
        """Has the batch read, with one answer for each schema's id in all of it, as when it runs again after a crash.

        It is read once more where a part of it had no schema of an id, and another part had one.
        """
        written = run(self._order(planned, schemas))
        if schemas is None or not (unresolved := find_contested(written)):
            return written
        return run(self._order(planned, replace(schemas, unresolved=unresolved)))

    def _find_schemas(self, batch_id: int, app: str) -> SchemaSource | None:
        """Gives the schemas of a batch: the same ones again, where a table has its rows already.

        The commit of each table that has them says for which ids there was none.
        """
        schemas = self._context.schemas if self._topic.is_registered else None
        if schemas is None or not self.has_any_of(batch_id, app):
            return schemas
        for table in (self._quarantined, self._deduplicated, self._erased, self._events):
            found = table.find_commit(lambda info: info.transaction == (app, batch_id))
            if found is not None:
                return replace(schemas, unresolved=frozenset(found[1].notes.get(_UNRESOLVED, ())))
        return schemas

    def _order(self, planned: PlannedBatch, schemas: SchemaSource | None = None) -> BatchOrder:
        """What the tasks of a batch are told."""
        read = self._context.read_records
        assert read is not None, "A stream over Kafka needs a reader."
        topic = planned.ranges[0].topic if planned.ranges else ""
        return BatchOrder(
            self._topic, topic, planned.arrival_micros, self._context.max_record_bytes, self._context.event_rules,
            read, self._forgotten, self._events.folder, self._quarantined.folder, self._horizon_micros, schemas,
        )  # fmt: skip

    def _find_held_since(self, planned: PlannedBatch) -> int | None:
        """What waits behind open transactions: asked before the batch is read, close to when it was planned."""
        unread = self._find_unread(planned)
        read_until = {r.kafka_partition: r.until_offset for r in planned.ranges if r.kafka_partition not in unread}
        return None if self._open is None else self._open.find_since(read_until)

    def _check_topic(self, planned: PlannedBatch) -> None:
        """Raises `LostOffsetsError` if the topic was replaced since the start. Call it after the batch was read."""
        fetch_topic_id = self._ingest.fetch_topic_id
        if self._topic_id and fetch_topic_id and fetch_topic_id() not in (None, self._topic_id):
            lost = [LostRange(r.topic, r.kafka_partition, r.from_offset, None, 0) for r in planned.ranges]
            raise LostOffsetsError(describe(lost))

    def _judge(self, written: Sequence[WrittenRecords], planned: PlannedBatch) -> JudgedBatch:
        found = [numbers for task in written if (numbers := unpack(task.numbers)) is not None]
        numbers = pa.concat_tables(found) if found else self._nothing
        return JudgedBatch(self._topic, written, numbers, self._repeats.find(written, numbers, planned))

    def _write_tables(
        self, batch: JudgedBatch, planned: PlannedBatch, app: str, held_since: int | None,
        session: SparkSession | None = None,
    ) -> None:  # fmt: skip
        notes = {_UNRESOLVED: sorted(batch.unresolved)} if batch.unresolved else None
        side_commit = build_batch_commit(self._query, app, planned, self._topic_id, notes=notes)
        files, repeated = batch.take_out_duplicates(session, self._events, self._deduplicated)
        if repeated:
            self._deduplicated.append_files(repeated, side_commit)
        batch.append_rejected(self._quarantined, side_commit)
        batch.append_erased(self._erased, planned, side_commit)
        verdicts = Verdicts(
            batch.column("kafka_partition"), batch.column("kafka_offset"), batch.is_rejected, batch.is_duplicate,
            batch.is_erased,
        )  # fmt: skip
        entries = build_entries(planned, verdicts.one_an_offset() if self._topic.is_list else verdicts)
        before = self._read_frontier()
        partitions, offsets, sent, senders = (
            batch.accepted(name) for name in ("kafka_partition", "kafka_offset", "kafka_timestamp", "sender")
        )
        frontier = before.advance(
            partitions, batch.accepted("event_time"), sent, planned.arrival_micros, self._find_unread(planned),
            senders, held_since,
        )  # fmt: skip
        self._clock.observe(partitions, offsets, sent, senders)
        fetch_is_compacted = self._ingest.fetch_is_compacted if any(entry.gaps for entry in entries) else None
        rows_by_type = batch.count_by_type()
        commit = build_batch_commit(
            self._query, app, planned, self._topic_id, entries, frontier, rows_by_type,
            None if fetch_is_compacted is None else fetch_is_compacted(), notes,
        )  # fmt: skip
        is_new = self._events.append_files(files, commit)
        # One that was there already counts in the frontier that its commit has, and not once more.
        self._frontier = frontier if is_new else None
        if is_new and frontier.micros != before.micros:
            self._moved_at = time.monotonic()
        self._repeats.remember(batch, planned.arrival_micros)
        for entry in entries:
            self.verdicts.update({verdict: getattr(entry, verdict) for verdict in VERDICTS})

    def _find_unread(self, planned: PlannedBatch) -> set[int]:
        """The partitions that may hold more than the batch took: none, unless the limit has cut it.

        Spark gives each partition its share of the limit, rounded down, and none to one that is read to its end.
        """
        if sum(r.length for r in planned.ranges) <= self._max_offsets - len(planned.ranges):
            return set()
        return {r.kafka_partition for r in planned.ranges if r.length}
