"""One stream as a query of a Spark application: started, watched, stopped between two batches, started again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from platform_assets.errors import HeadraceError
from platform_assets.streaming.batch_totals import BatchTotals
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.engine.foreach_batch import BatchWriter, ForeachBatch
from platform_assets.streaming.engine.query_errors import classify_failure, read_error
from platform_assets.streaming.progress import (
    QueryProgress,
    bytes_of,
    is_batch,
    lag_of,
    rate_of,
    read_progresses,
    rows_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.writer import DeltaWriter
    from platform_assets.streaming.stream_spec import Stream

# Between two writes a query records the one batch as done and plans the next: an interrupt there fills the log with
# errors of tasks. A query that is not done with it by then waits for a source that does not answer.
SETTLE_SECONDS = 15.0
# A query between two triggers is idle for milliseconds under load: a coarser look would miss the gap.
IDLE_POLL_SECONDS = 0.01


class StreamQuery(ABC):
    """What `KafkaQuery` and `TableQuery` share. Used from one thread.

    What a stop cuts short is replayed from the checkpoint at the next start, in this process or another.
    """

    _pool: str
    """Spark's scheduler pool: records come before what is derived from them."""
    _output_mode = "append"

    def __init__(self, session: SparkSession, stream: Stream, writer: BatchWriter, context: StreamContext) -> None:
        self.name = stream.name
        self.started_at = 0.0
        """Seconds since the epoch of the newest start; 0 before the first."""
        self._session = session
        self._context = context
        self._checkpoint = Checkpoint.of(context, stream.main_table.name)
        seconds = stream.trigger_seconds
        self._trigger_seconds = context.kafka_trigger_seconds if seconds is None else seconds
        self._writer = writer
        self._gate = ForeachBatch(stream.name, writer, context)
        self._query: StreamingQuery | None = None
        self._query_before: StreamingQuery | None = None
        self._bounded = False
        self._seen_batch = -1
        self._rows_in = self._bytes_in = 0
        self._totals = BatchTotals()

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

    @property
    def tables(self) -> Mapping[str, DeltaWriter]:
        """The tables that it writes, by name. From any thread."""
        return self._writer.tables

    def start(self, *, bounded: bool = False) -> None:
        """Starts the query, or starts it again after a stop."""
        self._bounded = bounded
        self._gate.open()
        rows = self._read_source()
        trigger = {"availableNow": True} if bounded else {"processingTime": f"{self._trigger_seconds} seconds"}
        # The query's thread takes the pool along, and every job of it.
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", self._pool)
        self.started_at = time.time()
        self._query_before, self._query = self._query, None
        self._query = (
            rows.writeStream.queryName(self.name)
            .outputMode(self._output_mode)
            .option("checkpointLocation", self._checkpoint.uri)
            .trigger(**trigger)
            .foreachBatch(self._gate)
            .start()
        )

    def failure(self) -> HeadraceError | None:
        """Why the query died, classified; None while it runs, was stopped, or came to its end."""
        if self._gate.error is not None:
            return self._gate.error
        if self._query is None or self._query.isActive or (error := self._query.exception()) is None:
            return None
        return self._judge_end(read_error(error))

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
        state = None if last is None else state_of(last)
        for report in batches:
            self._count(report)
        return QueryProgress(
            query=self.name,
            query_id=str(self._query.id),
            batch_id=-1 if last is None else int(last["batchId"]),
            rows_in=self._rows_in,
            rows_per_second=0.0 if last is None else rate_of(last),
            lag_records=lag_of(reports[-1]) if reports else None,
            watermark=reports[-1].get("eventTime", {}).get("watermark") if reports else None,
            table_versions={name: table.version for name, table in self.tables.items()},
            last_commit_at=None if last is None else str(last["timestamp"]),
            busy=self._query.isActive and bool(self._query.status["isTriggerActive"]),
            bytes_in=self._bytes_in,
            totals=self._totals,
            state_rows=None if state is None else state[0],
            state_bytes=None if state is None else state[1],
        )

    def _count(self, report: dict[str, Any]) -> None:
        """Adds a batch to the totals, once."""
        if report["batchId"] > self._seen_batch:
            self._seen_batch = report["batchId"]
            self._rows_in += rows_of(report)
            self._bytes_in += bytes_of(report)
            self._totals = self._totals.add(report["durationMs"])

    @abstractmethod
    def _read_source(self) -> DataFrame:
        """The rows that the query writes. Raises `HeadraceError` where its checkpoint does not allow a start."""

    def _judge_end(self, error: str) -> HeadraceError | None:
        """What the query's death by this error means; None where it was started again."""
        return classify_failure(self.name, error, self._context)
