"""One stream as a query of a Spark application: started, watched, stopped between two batches, started again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError
from platform_assets.streaming.checkpoint import state_plan
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.derive.commit_stream import read_commits
from platform_assets.streaming.derive.table_writer import TableWriter
from platform_assets.streaming.engine.foreach_batch import BatchWriter, ForeachBatch
from platform_assets.streaming.engine.query_errors import classify_failure
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.kafka_ranges import build_options
from platform_assets.streaming.ingest.lost_checkpoint import refuse_second_life
from platform_assets.streaming.progress import QueryProgress, is_batch, lag_of, read_progresses, rows_of
from platform_assets.streaming.specs import KafkaSource, StreamSpec, TableSource

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext

# Between two writes a query records the one batch as done and plans the next: an interrupt there fills the log with
# errors of tasks. A query that is not done with it by then waits for a source that does not answer.
SETTLE_SECONDS = 15.0
# Spark starts a Python process for the source of each query over a table, and gives it ten seconds (not a setting).
# On a loaded machine that is too short, so they are started one after the other, and again when they were too slow.
SOURCE_SECONDS = 5.0
SOURCE_ATTEMPTS = 5
SOURCE_TIMED_OUT = "Python worker failed to connect back"
# A query between two triggers is idle for milliseconds under load: a coarser look would miss the gap.
IDLE_POLL_SECONDS = 0.01
# A start takes a second at least, and each look at a query's status takes part of a core that the start is in need of.
_START_POLL_SECONDS = 0.1


class StreamQuery:
    """Creates the stream's tables, empty, when made. Used from one thread.

    What a stop cuts short is replayed from the checkpoint at the next start, in this process or another.
    """

    def __init__(self, session: SparkSession, stream: StreamSpec, context: StreamContext) -> None:
        self.stream = stream
        self.batch_writer: BatchWriter = (EventWriter if isinstance(stream.source, KafkaSource) else TableWriter)(
            stream, context
        )
        self.started_at = 0.0
        """Seconds since the epoch of the newest start; 0 before the first."""
        self._session = session
        self._context = context
        self._checkpoint = Checkpoint.of(context, stream.main_table.name)
        self._gate = ForeachBatch(stream.name, self.batch_writer, context)
        self._query: StreamingQuery | None = None
        self._query_before: StreamingQuery | None = None
        self._bounded = False
        self._source_attempts = 0
        self._rows_in = (-1, 0)

    @property
    def spark_queries(self) -> list[StreamingQuery]:
        """Spark's queries of the two newest starts, running or not, the newest last: their reports go into history."""
        return [query for query in (self._query_before, self._query) if query is not None]

    @property
    def is_active(self) -> bool:
        """Whether the query runs: started, not stopped, not dead, not at the end of a bounded run."""
        return self._query is not None and self._query.isActive

    def is_at_first_batch(self) -> bool:
        """Whether the query was started, is not dead, and has neither ended a batch since nor found nothing to do."""
        if self._query is None or not self._query.isActive:
            return False
        return self._query.lastProgress is None and not self._query.status["message"].startswith("Waiting for")

    def start(self, *, bounded: bool = False) -> None:
        """Starts the query, or starts it again after a stop. One over a table is waited for until its source is up."""
        self._bounded = bounded
        self._gate.open()
        over_kafka = isinstance(self.stream.source, KafkaSource)
        rows = self._read_kafka() if over_kafka else self._read_table()
        seconds = self.stream.trigger_seconds
        seconds = self._context.kafka_trigger_seconds if seconds is None else seconds
        trigger = {"availableNow": True} if bounded else {"processingTime": f"{seconds} seconds"}
        # The query's thread takes the pool along, and every job of it.
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", "ingest" if over_kafka else "derived")
        self.started_at = time.time()
        self._query_before, self._query = self._query, None
        self._query = (
            rows.writeStream.queryName(self.stream.name)
            .outputMode("update" if self.stream.write_mode == "upsert" else "append")
            .option("checkpointLocation", self._checkpoint.uri)
            .trigger(**trigger)
            .foreachBatch(self._gate)
            .start()
        )
        if not over_kafka:
            _wait_for_source(self._query)

    def failure(self) -> HeadraceError | None:
        """Why the query died, classified; None while it runs, was stopped, or came to its end.

        A query whose source did not start in Spark's time is started again first, a few times.
        """
        if self._gate.error is not None:
            return self._gate.error
        if self._query is None or self._query.isActive or (error := self._query.exception()) is None:
            return None
        if SOURCE_TIMED_OUT in str(error) and self._source_attempts < SOURCE_ATTEMPTS - 1:
            self._source_attempts += 1
            self.start(bounded=self._bounded)
            return None
        return classify_failure(self.stream.name, str(error), self._context)

    def try_stop(self) -> bool:
        """Stops the query now if no batch is being written, and says whether it did. After a False none begins."""
        if self._query is None:
            return True
        if not self._gate.close(0.0):
            return False
        self.stop(time.monotonic())
        return True

    def stop(self, deadline: float) -> None:
        """Stops the query, between two batches if it comes there by `deadline` (a monotonic clock's seconds).

        An interrupt inside a write is replayed, but is noisy.
        """
        if self._query is None:
            return
        if self._gate.close(deadline - time.monotonic()):
            settled = time.monotonic() + SETTLE_SECONDS
            while self._query.isActive and self._query.status["isTriggerActive"] and time.monotonic() < settled:
                if self._gate.has_arrival.wait(IDLE_POLL_SECONDS):
                    break
        self._query.stop()

    def progress(self) -> QueryProgress | None:
        """How far the query is; None before its first start."""
        if self._query is None:
            return None
        reports = read_progresses(self._query)
        batches = [report for report in reports if is_batch(report)]
        last = batches[-1] if batches else None
        if last is not None:
            seen, total = self._rows_in
            self._rows_in = (last["batchId"], total + sum(rows_of(r) for r in batches if r["batchId"] > seen))
        return QueryProgress(
            query=self.stream.name,
            query_id=str(self._query.id),
            batch_id=-1 if last is None else int(last["batchId"]),
            rows_in=self._rows_in[1],
            rows_per_second=0.0 if last is None else float(last.get("processedRowsPerSecond", 0.0)),
            lag_records=lag_of(reports[-1]) if reports else None,
            watermark=reports[-1].get("eventTime", {}).get("watermark") if reports else None,
            table_versions={name: table.version for name, table in self.batch_writer.tables.items()},
            last_commit_at=None if last is None else str(last["timestamp"]),
            busy=self._query.isActive and bool(self._query.status["isTriggerActive"]),
        )

    def _read_kafka(self) -> DataFrame:
        options = {
            **build_options(self._context),
            "subscribe": self._context.topic,
            "startingOffsets": self._find_starting_offsets(),
            "maxOffsetsPerTrigger": str(self._context.max_offsets_per_trigger),
        }
        return self._session.readStream.format("kafka").options(**options).load()

    def _find_starting_offsets(self) -> str:
        """As the setting says, for a query that has a checkpoint (which wins) or has never written anything.

        Raises `LostOffsetsError` when Kafka no longer holds what comes next.
        """
        assert isinstance(self.batch_writer, EventWriter)
        context = self._context
        is_new = self._checkpoint.read_generation() is None
        if is_new:
            start = self.batch_writer.find_recorded_offsets(context.topic, context.kafka_partitions)
        else:
            self._replan_too_large(self.batch_writer)
            start = self._checkpoint.read_next_offsets()
        known = {p: offset for p, offset in (start or {}).get(context.topic, {}).items() if offset >= 0}
        self.batch_writer.check_held(context.topic, known, is_new_checkpoint=is_new)
        return json.dumps(start) if is_new and start is not None else context.starting_offsets

    def _replan_too_large(self, writer: EventWriter) -> None:
        """Has a batch planned anew that is larger than the limit is now, and of which nothing is written.

        A plan outlives the process: a batch that does not fit the memory would end each start in the same way, whatever
        the limit is set to.
        """
        batch = self._checkpoint.find_unfinished_batch()
        if batch is None or sum(part.length for part in batch.ranges) <= self._context.max_offsets_per_trigger:
            return
        app = self._checkpoint.read_txn_app_id(self.stream.name)
        if not writer.has_any_of(batch.batch_id, app):
            self._checkpoint.forget_plan(batch.batch_id)

    def _read_table(self) -> DataFrame:
        assert isinstance(self.batch_writer, TableWriter)
        if self._checkpoint.read_generation() is None:
            refuse_second_life(self.stream.name, self.batch_writer.table)
        source, transform = self.stream.source, self.stream.transform
        assert isinstance(source, TableSource) and transform is not None
        uri = self._context.table_uri(source.table.name)
        rows = transform(read_commits(self._session, source, uri, self._context.storage_options))
        state_plan.check(self._checkpoint, self.stream.name, state_plan.describe(rows, self.stream))
        return rows


def _wait_for_source(query: StreamingQuery) -> None:
    """Until the query has asked its source for the first time, or is dead, or the time is over."""
    deadline = time.monotonic() + SOURCE_SECONDS
    while query.isActive and time.monotonic() < deadline:
        message = query.status["message"]
        if not message.startswith(("Initializing", "Getting offsets")):
            return
        time.sleep(_START_POLL_SECONDS)
