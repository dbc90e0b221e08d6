"""The design that tutorials lead to, with the same results: a query a table, each of which reads and parses Kafka.

Every query is `readStream` of the topic, `from_json`, `withWatermark` on the event time, the stream's own `transform`,
and Spark's Delta writer: an append, or in `foreachBatch` a MERGE on the table's key. Nothing is validated, quarantined,
deduplicated, accounted for, repaired or published. The watermarks' delays and the triggers are the platform's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from platform_assets.streaming.stream_spec import KafkaStream, Stream, TableStream
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext

# The event's fields as the shop sends them.
EVENT_DDL = (
    "event_id string, event_type string, timestamp timestamp, user_id string, product_id string, product_name string, "
    "category string, price double, quantity int, session_id string, device_type string, country string, revenue double"
)
_POLL_SECONDS = 0.02


class NaiveGroup:
    """`LiveGroup` of these queries, for streams of the platform. Their tables lie where the platform's would."""

    def __init__(self, session: SparkSession, streams: Sequence[Stream], context: StreamContext) -> None:
        self._session = session
        self._streams = streams
        self._context = context
        self._queries: list[StreamingQuery] = []

    def start(self) -> None:
        """See `LiveGroup`."""
        for stream in self._streams:
            if isinstance(stream, TableStream):
                self._start_gold(stream)
            else:
                self._start_silver(stream)

    def reconcile(self) -> None:
        """Everything was started at once."""

    def failure(self) -> Exception | None:
        """See `LiveGroup`."""
        failures = (query.exception() for query in self._queries if not query.isActive)
        return next((failure for failure in failures if failure is not None), None)

    def stop(self, grace_seconds: float) -> None:
        """See `LiveGroup`."""
        deadline = time.monotonic() + grace_seconds
        for query in self._queries:
            while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            query.stop()

    def _start_silver(self, stream: KafkaStream) -> None:
        from pyspark.sql import functions as F

        rows = self._read_events().withColumns(
            {"ingested_at": F.current_timestamp(), "event_date": F.to_date("event_time")}
        )
        self._start(rows, stream, self._context.kafka_trigger_seconds)

    def _start_gold(self, stream: TableStream) -> None:
        assert stream.trigger_seconds is not None
        delay = f"{stream.source.watermark_delay.total_seconds():.0f} seconds"
        rows = stream.transform(self._read_events().withWatermark(stream.source.time_column, delay))
        self._start(rows, stream, stream.trigger_seconds)

    def _read_events(self) -> DataFrame:
        from pyspark.sql import functions as F

        options = {
            **self._context.kafka_options,
            "subscribe": self._context.ingest["events"].topic,
            "startingOffsets": self._context.starting_offsets,
            "maxOffsetsPerTrigger": str(self._context.max_offsets_per_trigger),
        }
        records = self._session.readStream.format("kafka").options(**options).load()
        return (
            records.select(
                F.from_json(F.col("value").cast("string"), EVENT_DDL).alias("event"),
                "topic",
                F.col("partition").alias("kafka_partition"),
                F.col("offset").alias("kafka_offset"),
                F.col("timestamp").alias("kafka_timestamp"),
            )
            .select("event.*", "topic", "kafka_partition", "kafka_offset", "kafka_timestamp")
            .withColumnRenamed("timestamp", "event_time")
        )

    def _start(self, rows: DataFrame, stream: Stream, trigger_seconds: float) -> None:
        table = stream.main_table
        uri = self._context.table_uri(table.name)
        writer = (
            rows.writeStream.queryName(stream.name)
            .option("checkpointLocation", self._context.checkpoint_uri(table.name))
            .trigger(processingTime=f"{trigger_seconds} seconds")
        )
        if isinstance(stream, TableStream) and stream.write_mode == "upsert":
            self._create_table(table, uri)
            query = writer.outputMode("update").foreachBatch(_build_merge(table, uri)).start()
        else:
            query = writer.format("delta").partitionBy(*table.partition_columns).outputMode("append").start(uri)
        self._queries.append(query)

    def _create_table(self, table: TableSpec, uri: str) -> None:
        # delta-spark's builder would do, but its types refuse what StructType.fromDDL returns.
        self._session.sql(f"create table if not exists delta.`{uri}` ({table.ddl}) using delta")


def _build_merge(table: TableSpec, uri: str) -> Callable[[DataFrame, int], None]:
    same_key = " and ".join(f"t.{name} <=> s.{name}" for name in table.key)

    def merge(rows: DataFrame, batch_id: int) -> None:
        from delta.tables import DeltaTable

        target = DeltaTable.forPath(rows.sparkSession, uri).alias("t")
        target.merge(rows.alias("s"), same_key).whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    return merge
