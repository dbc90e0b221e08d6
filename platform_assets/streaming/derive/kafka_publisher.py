"""Publishes what a stream writes to a Kafka topic, besides writing its table. At least once.

A batch is published after its commit: a reader of the topic never sees what the table does not have. A crash between
the two, or before Spark has noted the batch, publishes the same rows again. A record's key is the table's key, so a
compacted topic holds the newest value of each row; what a repair takes out of the table becomes a tombstone. A topic of
states (`stream_spec.PublishedState`) has keys of its own, and gets the newest row of each key that a batch touches.
Values are JSON text, or are written by a schema of a registry (`published_values`), in Spark's tasks. Keys are JSON
text always: a frame would make another key of each when its schema gets a version, and the topic would compact neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from platform_assets.streaming.derive.published_states import PublishedStates
from platform_assets.streaming.derive.published_values import FramedWriter, PublishedValues
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext

# Spark's default ends at milliseconds.
_JSON_OPTIONS = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "ignoreNullFields": "false"}


class KafkaPublisher:
    """Publishes rows of one stream's table. Does nothing for a stream without a topic, or whose topic is not there."""

    def __init__(self, stream: TableStream, context: StreamContext) -> None:
        """Raises `SettingError` for a table of which no values of the format that is set can be written."""
        self._stream = stream
        self._topic = stream.publish_topic if stream.publish_topic in context.publish_topics else None
        self._kafka_options: Mapping[str, str] = context.kafka_options
        state = stream.published_state
        self._states = None if state is None else PublishedStates(stream.main_table, state, context)
        self._key = stream.main_table.key if state is None else state.key
        target = None if self._topic is None else context.publish_target
        self._values = None if target is None else PublishedValues(stream, target)

    @property
    def is_active(self) -> bool:
        """Whether there is a topic to publish to."""
        return self._topic is not None

    def publish(self, session: SparkSession, rows: pa.Table, batch: str, version: int, removed: bool = False) -> None:
        """One record a row, with headers `query`, `batch`, `version` (of the table), as text.

        `removed`: tombstones for these rows' keys. To a topic of states, one record a key. Raises what Spark raises
        when the broker does not take them, and before that what `PublishedValues.open` raises.
        """
        if self._topic is None or not len(rows):
            return
        headers = {"query": self._stream.name, "batch": batch, "version": str(version)}
        if self._states is None:
            self._send(session, self._stream.main_table, rows, headers, removed)
            return
        # Another writer's record may be in the topic before this one, and its row is in its table before that: what
        # was not seen the first time is seen the second time, and sent once more.
        sent, newest = None, self._states.find_newest(rows, removed)
        while newest != sent:
            for spec, found in newest.found:
                self._send(session, spec, found, headers, removed=False)
            self._send(session, self._stream.main_table, newest.without, headers, removed=True)
            sent, newest = newest, self._states.find_newest(rows, removed)

    def _send(
        self, session: SparkSession, table: TableSpec, rows: pa.Table, headers: Mapping[str, str], removed: bool
    ) -> None:
        from pyspark.sql import functions as F

        def header(name: str, text: str) -> Column:
            return F.struct(F.lit(name).alias("key"), F.lit(text).cast("binary").alias("value"))

        if self._topic is None or not len(rows):
            return
        names = [column.name for column in table.columns]
        writer = None if self._values is None or removed else self._values.open()
        key = _as_json(*self._key).alias("key")
        values = session.createDataFrame(rows.select(names))
        if writer is not None:
            values = _write_in_tasks(values.select(key, F.struct(*names).alias("row")), writer)
        else:
            text = F.lit(None).cast("string") if removed else _as_json(*names)
            values = values.select(key, text.alias("value"))
        (
            values.withColumn("headers", F.array(*(header(name, text) for name, text in headers.items())))
            .write.format("kafka")
            .options(**self._kafka_options)
            .option("topic", self._topic)
            .option("includeHeaders", "true")
            .save()
        )


def _as_json(*names: str) -> Column:
    from pyspark.sql import functions as F

    return F.to_json(F.struct(*names), _JSON_OPTIONS)


def _write_in_tasks(rows: DataFrame, writer: FramedWriter) -> DataFrame:
    """Keys and values of rows: columns `key` and `row`."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from writer.write_batches(batches)

    return rows.mapInArrow(write, "key string, value binary")
