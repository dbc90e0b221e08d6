"""A stream over Kafka as a query: where it begins to read, and a batch that has become too large."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from platform_assets.streaming.engine.stream_query import StreamQuery
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.kafka_ranges import build_options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.stream_spec import KafkaStream


class KafkaQuery(StreamQuery):
    """Creates the stream's tables, empty, when made. See `StreamQuery`."""

    _pool = "ingest"

    def __init__(self, session: SparkSession, stream: KafkaStream, context: StreamContext) -> None:
        self.stream = stream
        self.ingest = context.ingest[stream.name]
        self.writer = EventWriter(stream, context)
        super().__init__(session, stream, self.writer, context)

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

        Raises `LostOffsetsError` when Kafka no longer holds what comes next.
        """
        topic = self.ingest.topic
        is_new = self._checkpoint.read_generation() is None
        if is_new:
            start = self.writer.find_recorded_offsets(topic, self.ingest.kafka_partitions)
        else:
            self._replan_too_large()
            start = self._checkpoint.read_next_offsets()
        known = {p: offset for p, offset in (start or {}).get(topic, {}).items() if offset >= 0}
        self.writer.check_held(topic, known, is_new_checkpoint=is_new)
        return json.dumps(start) if is_new and start is not None else self._context.starting_offsets

    def _replan_too_large(self) -> None:
        """Has a batch planned anew that is larger than the limit is now, and of which nothing is written.

        A plan outlives the process: a batch that does not fit the memory would end each start in the same way, whatever
        the limit is set to.
        """
        batch = self._checkpoint.find_unfinished_batch()
        if batch is None or sum(part.length for part in batch.ranges) <= self._context.max_offsets_per_trigger:
            return
        app = self._checkpoint.read_txn_app_id(self.name)
        if not self.writer.has_any_of(batch.batch_id, app):
            self._checkpoint.forget_plan(batch.batch_id)
