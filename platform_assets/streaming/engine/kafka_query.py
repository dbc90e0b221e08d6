"""A stream over Kafka as a query: where it begins to read, and a batch that has become too large."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.engine.stream_query import StreamQuery
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.kafka_ranges import build_options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.checkpoint.checkpoint import TopicOffsets
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.progress import QueryProgress
    from platform_assets.streaming.stream_spec import KafkaStream


class KafkaQuery(StreamQuery):
    """Creates the stream's tables, empty, when made. See `StreamQuery`."""

    _pool = "ingest"

    def __init__(self, session: SparkSession, stream: KafkaStream, context: StreamContext) -> None:
        self.stream = stream
        self.ingest = context.ingest[stream.name]
        self.writer = EventWriter(stream, context)
        super().__init__(session, stream, self.writer, context)

    def progress(self) -> QueryProgress | None:
        """See `StreamQuery`; with what became of the records."""
        found = super().progress()
        return None if found is None else replace(found, verdicts=dict(self.writer.verdicts))

    def _read_source(self) -> DataFrame:
        options = {
            **build_options(self._context),
            "subscribe": self.ingest.topic,
            "startingOffsets": self._find_starting_offsets(),
            "maxOffsetsPerTrigger": str(self._context.max_offsets_per_trigger),
        }
        return self._session.readStream.format("kafka").options(**options).load()

    def _find_starting_offsets(self) -> str:
        """The offsets that the setting names, for a query without a checkpoint (which wins) that has never written.

        Raises `LostOffsetsError` when Kafka no longer holds what comes next, `CheckpointMismatchError` where another
        topic was read.
        """
        topic = self.ingest.topic
        is_new = self._checkpoint.read_generation() is None
        if is_new:
            start = self.writer.find_recorded_offsets(topic, self.ingest.kafka_partitions)
        else:
            self._forget_bad_plan()
            start = self._checkpoint.read_next_offsets()
            self._demand_same_topic(start)
        known = {p: offset for p, offset in (start or {}).get(topic, {}).items() if offset >= 0}
        self.writer.check_held(topic, known, is_new_checkpoint=is_new)
        return json.dumps(start) if is_new and start is not None else self._context.starting_offsets

    def _demand_same_topic(self, start: TopicOffsets | None) -> None:
        """Raises `CheckpointMismatchError` where another topic was read: Spark would plan a batch that never ends."""
        if others := sorted(set(start or {}) - {self.ingest.topic}):
            raise CheckpointMismatchError(
                f"Stream {self.name} has read the topic {', '.join(others)} until now, and is told to read "
                f"{self.ingest.topic}. Set the topic back. For another one write a topic file of another name "
                "(docs/adding-a-topic.md), or begin in another lakehouse (HEADRACE_LAKEHOUSE)."
            )

    def _forget_bad_plan(self) -> None:
        """Has a batch planned anew that is larger than the limit is now, or over another topic, if none is written.

        A plan outlives the process: a batch that does not fit the memory would end each start in the same way, whatever
        the limit is set to. One over another topic was planned by older code, and would end each start too.
        """
        batch = self._checkpoint.find_unfinished_batch()
        if batch is None:
            return
        is_too_large = sum(part.length for part in batch.ranges) > self._context.max_offsets_per_trigger
        if not is_too_large and {part.topic for part in batch.ranges} <= {self.ingest.topic}:
            return
        app = self._checkpoint.read_txn_app_id(self.name)
        if not self.writer.has_any_of(batch.batch_id, app):
            self._checkpoint.forget_plan(batch.batch_id)
