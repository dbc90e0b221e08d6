"""Publishes what a stream writes to a Kafka topic, besides writing its table. At least once.

A batch is published after its commit: a reader of the topic never sees what the table does not have. A crash between
the two, or before Spark has noted the batch, publishes the same rows again. A record's key is the table's key, so a
compacted topic holds the newest value of each row; what a repair takes out of the table becomes a tombstone. A stream
may name another key (`publish_key`): the topic then holds the newest row of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, SparkSession

    from platform_assets.streaming.context import StreamContext

# Spark's default ends at milliseconds.
_JSON_OPTIONS = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "ignoreNullFields": "false"}


class KafkaPublisher:
    """Publishes rows of one stream's table. Does nothing for a stream without a topic, or whose topic is not there."""

    def __init__(self, stream: TableStream, context: StreamContext) -> None:
        self._stream = stream
        self._topic = stream.publish_topic if stream.publish_topic in context.publish_topics else None
        self._kafka_options: Mapping[str, str] = context.kafka_options

    @property
    def is_active(self) -> bool:
        """Whether there is a topic to publish to."""
        return self._topic is not None

    def publish(self, session: SparkSession, rows: pa.Table, batch: str, version: int, removed: bool = False) -> None:
        """One record a row: key and value as JSON; headers `query`, `batch`, `version` (of the table), as text.

        `removed`: tombstones for these rows' keys. Raises what Spark raises when the broker does not take them.
        """
        from pyspark.sql import functions as F

        if self._topic is None or not len(rows):
            return

        def as_json(*names: str) -> Column:
            return F.to_json(F.struct(*names), _JSON_OPTIONS)

        def header(name: str, text: str) -> Column:
            return F.struct(F.lit(name).alias("key"), F.lit(text).cast("binary").alias("value"))

        headers = {"query": self._stream.name, "batch": batch, "version": str(version)}
        table = self._stream.main_table
        value = F.lit(None).cast("string") if removed else as_json(*(column.name for column in table.columns))
        (
            session.createDataFrame(rows.select([column.name for column in table.columns]))
            .select(
                as_json(*(self._stream.publish_key or table.key)).alias("key"),
                value.alias("value"),
                F.array(*(header(name, text) for name, text in headers.items())).alias("headers"),
            )
            .write.format("kafka")
            .options(**self._kafka_options)
            .option("topic", self._topic)
            .option("includeHeaders", "true")
            .save()
        )
