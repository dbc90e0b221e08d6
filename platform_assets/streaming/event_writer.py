"""Writes each micro-batch of Kafka records into accepted, quarantined and deduplicated rows, exactly once.

One read of Kafka and one parse a batch: the parsed rows are cached, their coordinates and hashes decide what is a
duplicate and what the ledger says, and then each table gets its rows in a commit of its own. The main table commits
last and carries the batch's ledger, so "the batch is done" is one atomic fact. A crash anywhere before it leads to a
replay of the same offsets with the same verdicts, in which tables that have the batch already are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from platform_assets.errors import CheckpointMismatchError, HeadraceError
from platform_assets.streaming.batch_gate import BatchGate
from platform_assets.streaming.batch_ledger import PartitionEntry, build_commit_metadata, build_entries
from platform_assets.streaming.checkpoints import PlannedBatch, read_generation, read_planned_batch
from platform_assets.streaming.deduplication import Duplicates, RecentIds, list_pairs, pack_coordinates
from platform_assets.streaming.delta_tables import find_commit_metadata, read_transaction_version, read_version
from platform_assets.streaming.event_parser import PARSED_DDL, build_parser

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.specs import StreamSpec

# Below this many rows a batch is written as one file: three files each second would be 260,000 a day.
ROWS_OF_ONE_FILE = 50_000
# A history of many dates would write (dates x tasks) files; from here on each date's rows go to one task first.
DATES_OF_ONE_SHUFFLE = 3


class BatchWriter(Protocol):
    """The write path of a stream over Kafka. A columnar writer can take this one's place."""

    error: HeadraceError | None
    gate: BatchGate
    """Every batch passes it: who has closed it knows that none is in flight in the tables, nor will be."""

    def __call__(self, batch_df: DataFrame, batch_id: int) -> None:
        """Writes one micro-batch; called by Spark, one batch after the other, again for a batch that did not end."""


@dataclass(frozen=True)
class _Verdicts:
    duplicates: Duplicates
    entries: list[PartitionEntry]
    accepted: int
    quarantined: int
    dates: int
    accepted_ids: tuple[Any, Any, Any] | None


class EventWriter:
    """`BatchWriter` over Spark's own Delta writer. One instance a query; keeps the recent ids between batches."""

    def __init__(self, session: SparkSession, spec: StreamSpec, context: StreamContext) -> None:
        self.error: HeadraceError | None = None
        self.gate = BatchGate()
        self._session = session
        self._query = spec.name
        self._checkpoint = context.checkpoint_uri(spec.main_table.name)
        self._events, self._quarantined, self._deduplicated = (context.table_uri(t.name) for t in spec.tables)
        self._max_record_bytes = context.max_record_bytes
        self._horizon_micros = context.deduplication_horizon_micros
        self._recent: RecentIds | None = None
        self._txn_app_id: str | None = None

    def __call__(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`. A `HeadraceError` is kept in `error`, for Spark passes on only its text."""
        try:
            with self.gate.admit(batch_df.sparkSession):
                self._write(batch_df, batch_id)
        except HeadraceError as error:
            self.error = error
            raise

    def _write(self, batch_df: DataFrame, batch_id: int) -> None:
        session = batch_df.sparkSession
        planned = read_planned_batch(session, self._checkpoint, batch_id)
        parser = build_parser(planned.arrival_micros, self._max_record_bytes)
        records = batch_df.select("key", "value", "partition", "offset", "timestamp")
        parsed = records.mapInArrow(parser, PARSED_DDL).persist()
        try:
            verdicts = self._judge(parsed, planned)
            self._write_tables(session, parsed, planned, verdicts)
            if self._recent is not None and verdicts.accepted_ids is not None:
                hash1, hash2, coordinates = verdicts.accepted_ids
                arrivals = np.full(len(hash1), planned.arrival_micros, dtype=np.int64)
                self._recent.add(hash1, hash2, coordinates, arrivals)
        finally:
            parsed.unpersist()

    def _judge(self, parsed: DataFrame, planned: PlannedBatch) -> _Verdicts:
        """One pass that fills the cache and brings coordinates and id hashes (not the rows) to the driver."""
        from pyspark.sql import functions as F

        hashes = [] if self._horizon_micros is None else _id_hashes()
        found = parsed.select(
            F.col("kafka_partition").cast("bigint"), "kafka_offset", F.col("reason").isNotNull().alias("rejected"),
            F.unix_date("event_date").alias("day"), *hashes,
        ).toArrow()  # fmt: skip
        partitions, offsets = _int64s(found, "kafka_partition"), _int64s(found, "kafka_offset")
        rejected = found.column("rejected").to_numpy()
        accepted_ids = None
        duplicates = Duplicates(np.empty(0, np.int64), np.empty(0, np.int64))
        if self._horizon_micros is not None:
            self._recent = self._recent or self._read_recent_ids(planned.arrival_micros, self._horizon_micros)
            own = ~rejected
            ids = _int64s(found, "hash1")[own], _int64s(found, "hash2")[own]
            coordinates = pack_coordinates(partitions[own], offsets[own])
            first_offsets = {r.kafka_partition: r.from_offset for r in planned.ranges}
            duplicates = self._recent.find_duplicates(*ids, coordinates, planned.arrival_micros, first_offsets)
            fresh = ~np.isin(coordinates, duplicates.coordinates)
            accepted_ids = ids[0][fresh], ids[1][fresh], coordinates[fresh]
        entries = build_entries(planned, partitions, offsets, rejected, duplicates.coordinates)
        days = _int64s(found, "day")[~rejected]
        return _Verdicts(
            duplicates,
            entries,
            accepted=sum(entry.accepted for entry in entries),
            quarantined=int(rejected.sum()),
            dates=len(np.unique(days)),
            accepted_ids=accepted_ids,
        )

    def _read_recent_ids(self, arrival_micros: int, horizon_micros: int) -> RecentIds:
        """The ids that `silver.events` holds within the horizon: at a start, and after a long stop."""
        from pyspark.sql import functions as F

        oldest = F.timestamp_micros(F.lit(arrival_micros - horizon_micros))
        rows = (
            self._session.read.format("delta").load(self._events).where(F.col("ingested_at") > oldest)
            .select(
                F.col("kafka_partition").cast("bigint"), "kafka_offset",
                F.unix_micros("ingested_at").alias("arrival"), *_id_hashes(),
            ).toArrow()
        )  # fmt: skip
        recent = RecentIds(horizon_micros)
        coordinates = pack_coordinates(_int64s(rows, "kafka_partition"), _int64s(rows, "kafka_offset"))
        recent.add(_int64s(rows, "hash1"), _int64s(rows, "hash2"), coordinates, _int64s(rows, "arrival"))
        return recent

    def _write_tables(
        self, session: SparkSession, parsed: DataFrame, planned: PlannedBatch, verdicts: _Verdicts
    ) -> None:
        from pyspark.sql import functions as F

        topic = F.lit(planned.ranges[0].topic).alias("topic")
        coordinates = (topic, "kafka_partition", "kafka_offset", "kafka_timestamp")
        accepted = parsed.where("reason is null")
        if len(verdicts.duplicates):
            pairs = session.createDataFrame(
                list_pairs(verdicts.duplicates),
                "kafka_partition int, kafka_offset bigint, kept_partition int, kept_offset bigint",
            )
            repeated = accepted.join(F.broadcast(pairs), ["kafka_partition", "kafka_offset"])
            rows = repeated.select(
                *coordinates, "event_id", topic.alias("kept_topic"), "kept_partition", "kept_offset",
                F.col("arrived_at").alias("deduplicated_at"),
            )  # fmt: skip
            self._append_once(session, rows.coalesce(1), self._deduplicated, planned, None)
            accepted = accepted.join(F.broadcast(pairs), ["kafka_partition", "kafka_offset"], "left_anti")
        if verdicts.quarantined:
            rows = parsed.where("reason is not null").select(
                "key", "value", *coordinates, "reason", "detail", F.col("arrived_at").alias("quarantined_at")
            )
            self._append_once(session, rows.coalesce(1), self._quarantined, planned, None)
        events = accepted.drop("reason", "detail", "key", "value")
        events = events.withColumn("topic", topic).withColumnRenamed("arrived_at", "ingested_at")
        if verdicts.accepted <= ROWS_OF_ONE_FILE:
            events = events.coalesce(1)
        elif verdicts.dates > DATES_OF_ONE_SHUFFLE:
            events = events.repartition("event_date")
        self._append_once(session, events, self._events, planned, verdicts.entries)

    def _append_once(
        self,
        session: SparkSession,
        rows: DataFrame,
        uri: str,
        planned: PlannedBatch,
        entries: list[PartitionEntry] | None,
    ) -> None:
        """Appends the batch's rows unless the table has them from a run before.

        Raises `CheckpointMismatchError` when the table holds another batch under this name, or Delta skipped a write.
        """
        app = self._read_txn_app_id(session)
        metadata = build_commit_metadata(self._query, app, planned, entries)
        if read_transaction_version(session, uri, app) >= planned.batch_id:
            self._check_same_batch(session, uri, app, planned)
            return
        before = read_version(session, uri)
        rows.write.format("delta").mode("append").options(
            txnAppId=app, txnVersion=str(planned.batch_id), userMetadata=metadata
        ).save(uri)
        if read_version(session, uri) == before:
            raise CheckpointMismatchError(
                f"Delta made no commit for batch {planned.batch_id} of query {self._query} in {uri}: another writer "
                "uses the same transaction name. Stop it, or start this query with a new checkpoint."
            )

    def _check_same_batch(self, session: SparkSession, uri: str, app: str, planned: PlannedBatch) -> None:
        """A replay may be skipped only if the commit in the table has the very offsets of this batch."""
        found = find_commit_metadata(session, uri, app, planned.batch_id)
        if found is None:
            raise CheckpointMismatchError(
                f"{uri} says it has batch {planned.batch_id} of query {self._query}, but its log has no commit of it. "
                "The checkpoint is older than the table's log: restore the checkpoint that belongs to the table."
            )
        ours = [[r.topic, r.kafka_partition, r.from_offset, r.until_offset] for r in planned.ranges]
        if found["ranges"] != ours:
            raise CheckpointMismatchError(
                f"Batch {planned.batch_id} of query {self._query} was committed to {uri} with offsets "
                f"{found['ranges']}, but the checkpoint now plans {ours}: it was restored from a backup or changed. "
                "Nothing was written. Restore the checkpoint that belongs to the table."
            )

    def _read_txn_app_id(self, session: SparkSession) -> str:
        if self._txn_app_id is None:
            generation = read_generation(session, self._checkpoint)
            self._txn_app_id = f"headrace/{self._query}/{generation}"
        return self._txn_app_id


def _id_hashes() -> list[Any]:
    from pyspark.sql import functions as F

    return [
        F.xxhash64("event_id").alias("hash1"),
        F.xxhash64(F.lit("headrace"), "event_id").alias("hash2"),
    ]


def _int64s(table: pa.Table, column: str) -> Any:
    values = table.column(column)
    return values.fill_null(0).to_numpy().astype(np.int64, copy=False)
