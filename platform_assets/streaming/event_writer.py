"""Writes each micro-batch of Kafka records into accepted, quarantined and deduplicated rows, exactly once.

Records of forgotten users come into none of them: only their coordinates are written down.

One Spark job a batch reads Kafka and parses, and brings the parsed records to the driver as Arrow; there their
coordinates and ids decide what is a duplicate and what the ledger says, and each table gets its rows in a commit of its
own. The main table commits last and carries the batch's ledger, so "the batch is done" is one atomic fact. A crash
anywhere before it leads to a replay of the same offsets with the same verdicts, in which tables that have the batch
already are left alone. The commit also carries the frontier that the streams over the table go by. A batch's records
are in the driver's memory at once; HEADRACE_MAX_OFFSETS_PER_TRIGGER bounds that.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.errors import LostOffsetsError
from platform_assets.streaming.batch_ledger import build_batch_commit, build_entries
from platform_assets.streaming.batch_table import BatchTable
from platform_assets.streaming.checkpoints import PlannedBatch, read_planned_batch, read_txn_app_id
from platform_assets.streaming.deduplication import (
    Duplicates,
    RecentIds,
    hash_ids,
    pack_coordinates,
    unpack_coordinates,
)
from platform_assets.streaming.event_content import CONTENT, describe_contents, hash_contents, open_connection
from platform_assets.streaming.event_parser import MESSAGE_DDL, build_parser, count_by_type, read_messages
from platform_assets.streaming.forgotten_users import ON_ARRIVAL, UNSURE_ON_ARRIVAL, Register, build_erased
from platform_assets.streaming.frontier import Frontier
from platform_assets.streaming.lost_checkpoint import find_recorded_offsets
from platform_assets.streaming.lost_ranges import LostRange, describe, find_lost_ranges, read_acknowledged_offsets
from platform_assets.streaming.named_users import Mention
from platform_assets.streaming.sent_again import find_sent_again
from platform_assets.tables.platform import ERASED_RECORDS, LOST_RANGES, REQUEUED_RECORDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from platform_assets.streaming.checkpoints import TopicOffsets
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.deduplication import Int64s
    from platform_assets.streaming.specs import StreamSpec

_UTC_MICROS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class _Batch:
    """The parsed records of a batch with what became of each: parallel arrays, one item a record."""

    records: pa.Table
    partitions: Int64s
    offsets: Int64s
    is_rejected: Any
    is_duplicate: Any
    mentions: Any
    """How each record names a forgotten user (`named_users.Mention`)."""
    duplicates: Duplicates
    ids: tuple[Int64s, Int64s] | None
    """The hashed event_ids (of rejected records too, where they mean nothing); None when nothing is deduplicated."""
    contents: Int64s | None
    """The hashed contents, likewise."""


class EventWriter:
    """`BatchWriter` of a stream over Kafka. Keeps the recent ids and the frontier between batches."""

    def __init__(self, spec: StreamSpec, context: StreamContext) -> None:
        self._query = spec.name
        self._checkpoint = context.checkpoint_uri(spec.main_table.name)
        self._tables = {table.name: BatchTable(table, context) for table in spec.tables}
        self._events, self._quarantined, self._deduplicated = self._tables.values()
        self._lost = BatchTable(LOST_RANGES, context)
        self._erased = BatchTable(ERASED_RECORDS, context)
        self._register = Register(context)
        BatchTable(REQUEUED_RECORDS, context)
        self._fetch_held = context.fetch_held
        self._fetch_topic_id = context.fetch_topic_id
        self._topic_id = ""
        self._max_record_bytes, self._rules = context.max_record_bytes, context.event_rules
        self._horizon_micros = context.deduplication_horizon_micros
        self._max_offsets = context.max_offsets_per_trigger
        self._hashing = open_connection()
        self._recent: RecentIds | None = None
        self._frontier: Frontier | None = None
        self._moved_at: int | None = None
        self._working = threading.Lock()

    @property
    def tables(self) -> Mapping[str, BatchTable]:
        """See `BatchWriter`."""
        return self._tables

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`."""
        with self._working:
            self._write(batch_df, batch_id)

    def find_recorded_offsets(self, topic: str, partitions: Sequence[int]) -> TopicOffsets | None:
        """Behind the last commit, or what was acknowledged as lost since: see `lost_checkpoint`."""
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
        """Before a start: whether Kafka holds what is to be read next. Raises `LostOffsetsError` with what is gone."""
        if self._fetch_held is None:
            return
        held = self._fetch_held()
        self._topic_id = held.topic_id
        last = self._events.read_last_batch()
        read_topic_id = (last or {}).get("topic_id")
        if is_new_checkpoint and read_acknowledged_offsets(self._lost, last, topic):
            read_topic_id = None  # the new checkpoint has read nothing of the new topic, nor of the old one
        if lost := find_lost_ranges(topic, next_offsets, read_topic_id, held):
            raise LostOffsetsError(describe(lost))

    @property
    def moved_at_micros(self) -> int | None:
        """When the newest batch arrived whose events moved the frontier; None: none has in this process.

        Heartbeats, tombstones, repeated and late events do not: for the windows that are open they are silence.
        """
        return self._moved_at

    def read_latest_event(self) -> int | None:
        """The latest event time, microseconds; None before the first event. From any thread."""
        return self._read_frontier().latest_event

    def mark_idle(self, read_until_micros: int) -> None:
        """Moves the frontier up to a moment at which no record was unread. From any thread; skipped during a batch.

        One commit without rows; none before the first event, nor where the frontier is as far.
        """
        if not self._working.acquire(blocking=False):
            return
        try:
            frontier = self._read_frontier()
            if frontier.latest_event is None:
                return
            marked = frontier.mark(read_until_micros)
            if marked != frontier:
                self._events.mark({"query": self._query, **marked.as_json()})
                self._frontier = marked
        finally:
            self._working.release()

    def _read_frontier(self) -> Frontier:
        if self._frontier is None:
            self._frontier = Frontier.parse(self._events.read_last_frontier() or {})
        return self._frontier

    def _write(self, batch_df: DataFrame, batch_id: int) -> None:
        session = batch_df.sparkSession
        planned = read_planned_batch(session, self._checkpoint, batch_id)
        app = read_txn_app_id(session, self._query, self._checkpoint)
        parser = build_parser(planned.arrival_micros, self._max_record_bytes, self._rules)
        records = batch_df.select("key", "value", "partition", "offset", "timestamp")
        messages = records.mapInArrow(parser, MESSAGE_DDL).toArrow()
        self._check_topic(planned)
        batch = self._judge(read_messages(messages), planned)
        self._write_tables(batch, planned, app)

    def _check_topic(self, planned: PlannedBatch) -> None:
        """After the batch was read: whether the topic is still the one that was there at the start."""
        if self._topic_id and self._fetch_topic_id and self._fetch_topic_id() not in (None, self._topic_id):
            lost = [LostRange(r.topic, r.kafka_partition, r.from_offset, None, 0) for r in planned.ranges]
            raise LostOffsetsError(describe(lost))

    def _judge(self, records: pa.Table, planned: PlannedBatch) -> _Batch:
        partitions, offsets = _int64s(records, "kafka_partition"), _int64s(records, "kafka_offset")
        mentions = self._register.judge_records(records)
        is_erased = mentions != Mention.NONE
        is_rejected = records.column("reason").is_valid().to_numpy() & ~is_erased
        duplicates = Duplicates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        coordinates = pack_coordinates(partitions, offsets)
        ids = contents = None
        if self._horizon_micros is not None:
            if self._recent is None:
                self._recent = self._read_recent_ids(planned.arrival_micros, self._horizon_micros)
            own = ~(is_rejected | is_erased)
            ids, contents = hash_ids(records.column("event_id")), hash_contents(self._hashing, records)
            first_offsets = {r.kafka_partition: r.from_offset for r in planned.ranges}
            sent = records.select(["event_id", "event_time"]).filter(pa.array(own))
            older = find_sent_again(self._events, sent, planned.arrival_micros, self._horizon_micros)
            duplicates = self._recent.find_duplicates(
                ids[0][own], ids[1][own], coordinates[own], contents[own], planned.arrival_micros, first_offsets, older
            )
        is_duplicate = np.isin(coordinates, duplicates.coordinates)
        return _Batch(records, partitions, offsets, is_rejected, is_duplicate, mentions, duplicates, ids, contents)

    def _read_recent_ids(self, arrival_micros: int, horizon_micros: int) -> RecentIds:
        """The ids that `silver.events` holds within the horizon: at a start, and after a long stop."""
        import pyarrow.compute as pc

        oldest = pa.scalar(arrival_micros - horizon_micros, pa.int64()).cast(_UTC_MICROS)
        columns = list(dict.fromkeys([*CONTENT, "kafka_partition", "kafka_offset", "ingested_at"]))
        recent = RecentIds(horizon_micros)
        for batch in self._events.read_batches(columns, pc.field("ingested_at") > oldest):
            rows = pa.Table.from_batches([batch])
            if len(rows):
                coordinates = pack_coordinates(_int64s(rows, "kafka_partition"), _int64s(rows, "kafka_offset"))
                ids, contents = hash_ids(rows.column("event_id").cast(pa.string())), hash_contents(self._hashing, rows)
                recent.add(*ids, coordinates, contents, _int64s(rows, "ingested_at"))
        return recent

    def _write_tables(self, batch: _Batch, planned: PlannedBatch, app: str) -> None:
        count = len(batch.records)
        topic = pa.repeat(planned.ranges[0].topic, count)
        arrived = pa.repeat(pa.scalar(planned.arrival_micros, pa.int64()).cast(_UTC_MICROS), count)
        records = batch.records.append_column("topic", topic).append_column("arrived_at", arrived)
        side_commit = build_batch_commit(self._query, app, planned, self._topic_id)
        if len(batch.duplicates):
            repeated = _add_kept(records.filter(pa.array(batch.is_duplicate)), batch)
            self._deduplicated.append(_rename(repeated, "deduplicated_at"), side_commit)
        if batch.is_rejected.any():
            rejected = records.filter(pa.array(batch.is_rejected))
            self._quarantined.append(_rename(rejected, "quarantined_at"), side_commit)
        is_erased = batch.mentions != Mention.NONE
        if is_erased.any():
            # What may be the user's goes too: nobody could say afterwards that it had come.
            was = np.where(batch.mentions[is_erased] == Mention.CERTAIN, ON_ARRIVAL, UNSURE_ON_ARRIVAL)
            self._erased.append(build_erased(records.filter(pa.array(is_erased)), pa.array(was)), side_commit)
        is_accepted = ~(batch.is_rejected | batch.is_duplicate | is_erased)
        accepted = records if is_accepted.all() else records.filter(pa.array(is_accepted))
        entries = build_entries(
            planned, batch.partitions, batch.offsets, batch.is_rejected, batch.is_duplicate, is_erased
        )
        before = self._read_frontier()
        frontier = before.advance(
            batch.partitions[is_accepted], _int64s(accepted, "event_time"), _int64s(accepted, "kafka_timestamp"),
            planned.arrival_micros, self._find_unread(planned), _number_senders(accepted),
        )  # fmt: skip
        commit = build_batch_commit(
            self._query, app, planned, self._topic_id, entries, frontier, count_by_type(accepted)
        )
        is_new = self._events.append(_rename(accepted, "ingested_at"), commit)
        # One that was there already counts in the frontier that its commit has, and not once more.
        self._frontier = frontier if is_new else None
        if is_new and frontier.micros != before.micros:
            self._moved_at = planned.arrival_micros
        if self._recent is not None and batch.ids is not None and batch.contents is not None:
            hash1, hash2, contents = (hashes[is_accepted] for hashes in (*batch.ids, batch.contents))
            coordinates = pack_coordinates(batch.partitions[is_accepted], batch.offsets[is_accepted])
            arrivals = np.full(len(coordinates), planned.arrival_micros, dtype=np.int64)
            self._recent.add(hash1, hash2, coordinates, contents, arrivals)

    def _find_unread(self, planned: PlannedBatch) -> set[int]:
        """The partitions that may hold more than the batch took: none, unless the limit has cut it.

        Spark gives each partition its share of the limit, rounded down, and none to one that is read to its end.
        """
        if sum(r.length for r in planned.ranges) <= self._max_offsets - len(planned.ranges):
            return set()
        return {r.kafka_partition for r in planned.ranges if r.length}


def _rename(records: pa.Table, arrival_column: str) -> pa.Table:
    """The records with their time of arrival under the name that the table has for it."""
    return records.rename_columns({"arrived_at": arrival_column})


def _add_kept(repeated: pa.Table, batch: _Batch) -> pa.Table:
    """Adds where the record that each of these repeats was kept: `kept_topic`, `kept_partition`, `kept_offset`.

    And whether it says the same; of one that does not, what it says and who it is of.
    """
    found = batch.duplicates
    places = zip(found.kept.tolist(), found.is_same.tolist(), strict=True)
    kept_of = dict(zip(found.coordinates.tolist(), places, strict=True))
    own = pack_coordinates(_int64s(repeated, "kafka_partition"), _int64s(repeated, "kafka_offset"))
    kept = [unpack_coordinates(kept_of[place][0]) for place in own.tolist()]
    is_same = pa.array([kept_of[place][1] for place in own.tolist()], pa.bool_())
    others = iter(describe_contents(repeated.filter(pa.compute.invert(is_same))))
    added = {
        "kept_topic": repeated.column("topic"),
        "kept_partition": pa.array([partition for partition, _ in kept], pa.int32()),
        "kept_offset": pa.array([offset for _, offset in kept], pa.int64()),
        "is_same_content": is_same,
        "content": pa.array([None if same else next(others) for same in is_same.to_pylist()], pa.string()),
        "other_user_id": pa.compute.if_else(is_same, pa.scalar(None, pa.string()), repeated.column("user_id")),
    }
    for name, values in added.items():
        repeated = repeated.append_column(name, values)
    return repeated


def _number_senders(records: pa.Table) -> Int64s:
    """A number for each record's user, equal for equal users."""
    found: Int64s = records.column("user_id").combine_chunks().dictionary_encode().indices.to_numpy()
    return found


def _int64s(table: pa.Table, column: str) -> Int64s:
    found: Int64s = table.column(column).cast(pa.int64()).to_numpy()
    return found
