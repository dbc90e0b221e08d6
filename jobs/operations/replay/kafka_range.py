"""Replays from Kafka what the current parser makes of accepted records, and accepted rows that are gone.

For the table of a stream over Kafka, as long as Kafka holds the records. Which of its tables a record is in does not
change: the ledger has counted it there. So only rows of the main table are recomputed: those that it has, if they are
accepted still and have the same event id, and those of records that are in no table at all though a batch has read
them. What else would be otherwise now is counted and left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from jobs.operations.replay.comparison import Comparison, compare_rows
from jobs.operations.replay.kafka_records import (
    PLACE,
    find_lost,
    intersect,
    join_by_place,
    merge_ranges,
    read_records,
    read_rows,
)
from jobs.operations.replay.row_replay import ReplayScope, RowReplay
from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import Entry, read_all_entries, read_entries_with
from platform_assets.errors import UsageError
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.late_events import as_late, build_repairs
from platform_assets.streaming.stream_spec import KafkaStream, TableStream
from platform_assets.tables.platform import LATE_EVENTS, LOST_RANGES

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

_ARRIVAL = "ingested_at"
# What a replayed row keeps of the row that it replaces.
_KEPT = ("topic", _ARRIVAL)


class KafkaReplay(RowReplay[KafkaStream]):
    """Replays a stream over Kafka. `derived`: the streams over its table, repaired where rows were replaced."""

    # What was read does not change: an erasure holds a replay's lock, and a requeue adds rows of other records.
    _goes_stale = False

    def __init__(
        self,
        stream: KafkaStream,
        context: StreamContext,
        lakehouse: LakehouseResource,
        kafka: KafkaResource,
        derived: Sequence[TableStream],
        scope: ReplayScope,
    ) -> None:
        super().__init__(stream, context, lakehouse, f"headrace replay {stream.name}")
        self._kafka = kafka
        self._derived = [follower for follower in derived if follower.source.table.name == stream.main_table.name]
        self._id = stream.main_table.roles.event_id
        self._scope = scope
        self._lost_ranges = DeltaReader(LOST_RANGES, context).read_arrow().to_pylist()
        losses = Losses(self._lost_ranges)
        self._topic = context.ingest[stream.name].topic
        self._topic_micros = max(losses.times_begun_again(self._topic), default=0)
        self._topic_since = datetime.fromtimestamp(self._topic_micros / 1e6, UTC)

    def describe(self) -> str:
        """See `RowReplay`."""
        return f"rows of the records {_describe(self._ranges)}"

    def _compare(self, session: SparkSession) -> Comparison:
        from pyspark.sql import functions as F

        stream, names = self._stream, [column.name for column in self._stream.main_table.columns]
        records = read_records(session, self._context, stream.topic, self._ranges).persist()
        try:
            live = read_rows(session, self._context, stream.main_table, self._ranges, _ARRIVAL, self._topic_since)
            pairs = join_by_place(live, records, stream.topic.is_list)
            same = pairs.where("r._reason is null")
            same = same if self._id is None else same.where(f"r.`{self._id}` = l.`{self._id}`")
            replayed = same.select(*(F.col(f"{'l' if name in _KEPT else 'r'}.{name}") for name in names))
            lost, notes = find_lost(
                session, self._context, stream, records, self._ranges, self._read_accounts, self._topic_since
            )
            if len(lost):
                replayed = replayed.union(session.createDataFrame(lost.select(names)))
            found = compare_rows(
                session, stream, replayed, same.select(*(F.col(f"l.{name}") for name in names)), self._difference
            )
            doubled = live.groupBy(*stream.main_table.key).count().where("count > 1").count()
            notes = [*_describe_refused(pairs, self._id), *notes, *self._describe_latest()]
            return replace(found, doubled=doubled, notes=tuple(notes))
        finally:
            records.unpersist()

    def _describe_latest(self) -> list[str]:
        """What does not follow by itself: no row of a table of latest rows says from which record it comes."""
        names = [stream.name for stream in self._derived if stream.is_latest]
        return [f"After a swap have {name} follow: headrace recompute {name}" for name in names]

    def _fix_of_doubled(self) -> str:
        return "The check ledger names them: delete those that are too many, or restore a backup."

    def _bounds(self) -> str:
        return f"t.{_ARRIVAL} > timestamp '{self._topic_since.isoformat()}'"

    def _follow(self, session: SparkSession, version: int) -> None:
        """Has repaired what the replaced rows are counted in, as they were and as they are."""
        roles = self._stream.main_table.roles
        own = [name for name in (roles.event_id, roles.user_id, roles.event_type) if name is not None]
        names = [*self._stream.main_table.key, "event_time", *own]
        touched = self._read_difference(session).select(*names).distinct().toArrow()
        late = DeltaWriter(LATE_EVENTS, self._context)
        for stream in self._derived:
            if stream.is_latest:
                continue
            rows = build_repairs(stream, as_late(touched, stream.source), datetime.now(UTC), version)
            if len(rows):
                info = CommitInfo(CommitKind.REPLAY, self._stream.name)
                late.put(rows, f"t.query = '{stream.name}'", info)

    @cached_property
    def _entries(self) -> list[Entry]:
        """The accounts of the batches that have read this topic: not an older one of the same name."""
        events = self._lakehouse.find_table(self._stream.main_table.name)
        ledger = self._lakehouse.find_table("platform.ledger")
        if events is None or ledger is None:
            return []
        return self._select_own(read_all_entries(self._stream.name, events, ledger, self._lost_ranges))

    def _read_accounts(self, records: pa.Table) -> list[Entry]:
        """The accounts of the batches that have read these records."""
        events = self._lakehouse.find_table(self._stream.main_table.name)
        offsets: dict[int, set[int]] = {}
        for partition, offset in zip(*(records[name].to_pylist() for name in PLACE), strict=True):
            offsets.setdefault(partition, set()).add(offset)
        if events is None:
            return []
        ledger = self._lakehouse.find_table("platform.ledger")
        return self._select_own(read_entries_with(self._stream.name, events, ledger, offsets))

    def _select_own(self, entries: Sequence[Entry]) -> list[Entry]:
        return [e for e in entries if e.topic == self._topic and e.arrival_micros > self._topic_micros]

    @cached_property
    def _ranges(self) -> list[OffsetRange]:
        """What the stream has read of the scope, and Kafka holds. Raises `UsageError` where that is nothing."""
        topic, scope = self._topic, self._scope
        held, ends = self._kafka.beginning_offsets(topic), self._kafka.end_offsets(topic)
        read = merge_ranges(self._entries)
        if scope.offsets:
            wanted = [_parse_offsets(text, topic, held) for text in scope.offsets]
        else:
            since = held if scope.since is None else self._kafka.offsets_at(topic, scope.since)
            until = ends if scope.until is None else self._kafka.offsets_at(topic, scope.until)
            wanted = [OffsetRange(topic, p, since[p], until[p]) for p in sorted(held)]
        if not (found := intersect(wanted, read)):
            holds = [OffsetRange(topic, p, held[p], ends[p]) for p in sorted(held)]
            raise UsageError(
                f"There is nothing to replay: Kafka holds {_describe(holds)}; {self._stream.name} has read "
                f"{_describe(read) or 'nothing yet'}. Name what both have."
            )
        return found


def _describe(ranges: Sequence[OffsetRange]) -> str:
    return ", ".join(f"{r.topic}/{r.kafka_partition}/{r.from_offset}-{r.until_offset}" for r in ranges)


def _parse_offsets(text: str, topic: str, held: dict[int, int]) -> OffsetRange:
    """`topic/partition/from-until`. Raises `UsageError`, also for offsets that Kafka does not hold any more."""
    try:
        name, partition, offsets = text.rsplit("/", 2)
        start, until = map(int, offsets.split("-"))
        found = OffsetRange(name, int(partition), start, until)
    except ValueError:
        raise UsageError(f"--offsets {text}: must be topic/partition/from-until, as in {topic}/0/100-200.") from None
    if found.topic != topic or found.kafka_partition not in held:
        raise UsageError(f"--offsets {text}: the stream reads {topic}, partitions {sorted(held)}.")
    if found.from_offset < held[found.kafka_partition]:
        raise UsageError(
            f"--offsets {text}: Kafka holds {topic}/{partition} from offset {held[found.kafka_partition]} on."
        )
    return found


def _describe_refused(pairs: DataFrame, id_column: str | None) -> list[str]:
    """Describes the accepted records that the current parser would not accept as the same event."""
    refused = pairs.where("r._reason is not null").groupBy("r._reason").count().orderBy("r._reason").collect()
    said = [f"{row['count']:,} accepted records would be refused now ({row['_reason']}): they stay." for row in refused]
    if id_column is None:
        return said
    others = pairs.where(f"r._reason is null and r.{id_column} != l.{id_column}").count()
    return [*said, *([f"{others:,} accepted records have another {id_column} now: they stay."] if others else [])]
