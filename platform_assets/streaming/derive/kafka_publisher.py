"""Publishes what a stream writes to a Kafka topic, besides writing its table. At least once.

A batch is published after its commit: a reader of the topic never sees what the table does not have. A crash between
the two, or before Spark has noted the batch, publishes the same rows again. A record's key is the table's key, so a
compacted topic holds the newest value of each row; what a repair takes out of the table becomes a tombstone. A topic of
states (`stream_spec.PublishedState`) has keys of its own, and gets the newest row of each key that a batch touches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from platform_assets.streaming.derive.published_states import PublishedStates
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.spec import TableSpec

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
        state = stream.published_state
        self._states = None if state is None else PublishedStates(stream.main_table, state, context)
        self._key = stream.main_table.key if state is None else state.key

    @property
    def is_active(self) -> bool:
        """Whether there is a topic to publish to."""
        return self._topic is not None

    def publish(self, session: SparkSession, rows: pa.Table, batch: str, version: int, removed: bool = False) -> None:
        """One record a row: key and value as JSON; headers `query`, `batch`, `version` (of the table), as text.

        `removed`: tombstones for these rows' keys. To a topic of states, one record a key. Raises what Spark raises
        when the broker does not take them.
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

        def as_json(*names: str) -> Column:
            return F.to_json(F.struct(*names), _JSON_OPTIONS)

        def header(name: str, text: str) -> Column:
            return F.struct(F.lit(name).alias("key"), F.lit(text).cast("binary").alias("value"))

        if self._topic is None or not len(rows):
            return
        value = F.lit(None).cast("string") if removed else as_json(*(column.name for column in table.columns))
        (
            session.createDataFrame(rows.select([column.name for column in table.columns]))
            .select(
                as_json(*self._key).alias("key"),
                value.alias("value"),
                F.array(*(header(name, text) for name, text in headers.items())).alias("headers"),
            )
            .write.format("kafka")
            .options(**self._kafka_options)
            .option("topic", self._topic)
            .option("includeHeaders", "true")
            .save()
        )
