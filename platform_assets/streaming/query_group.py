"""Runs the streams of a group as queries of one Spark application.

Called by the host loop (a supervised run or a drain), from one thread. Tables are created, empty, before the first
batch. In bounded mode the streams over Kafka catch up first, then those over their tables: a stage a kind of source.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError
from platform_assets.streaming.commit_stream import read_commits, register_source
from platform_assets.streaming.event_writer import EventWriter
from platform_assets.streaming.foreach_batch import BatchWriter, ForeachBatch
from platform_assets.streaming.group_care import GroupCare
from platform_assets.streaming.progress import QueryProgress, is_batch, lag_of, read_progresses, rows_of
from platform_assets.streaming.query_errors import classify_failure
from platform_assets.streaming.specs import KafkaSource, StreamSpec, TableSource
from platform_assets.streaming.table_writer import TableWriter

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


class QueryGroup:
    """See the module. `start` once, then `progress`/`failure`/`is_finished` as often as wanted, then `stop`."""

    def __init__(self, session: SparkSession, streams: Sequence[StreamSpec], context: StreamContext) -> None:
        self._session = session
        self._context = context
        self._bounded = False
        kafka = [stream for stream in streams if isinstance(stream.source, KafkaSource)]
        self._stages = [stage for stage in (kafka, [s for s in streams if s not in kafka]) if stage]
        self._writers: dict[str, ForeachBatch] = {}
        self._queries: dict[str, tuple[StreamSpec, ForeachBatch, StreamingQuery]] = {}
        self._rows_in: dict[str, tuple[int, int]] = {}
        self._attempts: dict[str, int] = {}
        self._streams = tuple(streams)
        self._care: GroupCare | None = None

    def start(self, *, bounded: bool = False) -> None:
        """Creates the tables and starts the queries: all of them, or the first stage of a bounded run.

        Raises `HeadraceError` when a query cannot start; those started before run on until `stop`.
        """
        self._bounded = bounded
        try:
            # All tables first: a stream reads another one's, and a person finds every table from the first moment.
            writers = {stream.name: _build_writer(stream, self._context) for stream in self._streams}
            self._writers = {name: ForeachBatch(name, writer, self._context) for name, writer in writers.items()}
            self._care = GroupCare(self._session, self._streams, self._context, writers)
            register_source(self._session)
            # A bounded query ends when nothing is left to close. One that goes on closes windows with its next batch,
            # and spares a second batch after each.
            self._session.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", str(bounded).lower())
            self._start_stage()
            while self._stages and not bounded:
                self._start_stage()
        except HeadraceError:
            raise
        except Exception as error:
            raise classify_failure("start", str(error), self._context) from error
        if not bounded:
            self._care.start(lambda: {name: query for name, (_, _, query) in self._queries.items()})

    def progress(self) -> dict[str, QueryProgress]:
        """Each started query's progress, by stream name."""
        return {name: self._progress_of(*parts) for name, parts in self._queries.items()}

    def failure(self) -> HeadraceError | None:
        """Why the first query died, classified; None while all are well.

        A query whose source did not start in Spark's time is started again first, a few times.
        """
        for name, (stream, writer, query) in list(self._queries.items()):
            if writer.error is not None:
                return writer.error
            if not query.isActive and (error := query.exception()) is not None:
                if not self._may_start_again(stream, str(error)):
                    return classify_failure(name, str(error), self._context)
                self._start_query(stream)
        return None if self._care is None else self._care.error

    def is_finished(self) -> bool:
        """Bounded mode: whether all stages have ended without a failure. Starts the next stage when one has ended.

        The last stage is followed by the repair of what came late; it raises `HeadraceError`.
        """
        if not self._bounded or self.failure() is not None:
            return False
        if any(query.isActive for _, _, query in self._queries.values()):
            return False
        assert self._care is not None
        if self._stages:
            if self._context.close_windows:
                self._care.mark_read()
            self._start_stage()
            return False
        self._care.repair()
        return True

    def stop(self, grace_seconds: float) -> None:
        """Waits for the batches in flight, at most `grace_seconds` in all, stops the queries, writes the history.

        What a stop cuts short is replayed from the checkpoint at the next start. Never raises for a dead JVM.
        """
        from py4j.protocol import Py4JError

        deadline = time.monotonic() + grace_seconds
        queries = [query for _, _, query in self._queries.values()]
        try:
            for _, writer, query in self._queries.values():
                self._stop_between_batches(writer, query, deadline)
            if self._care is not None:
                self._care.stop(queries, max(1.0, deadline - time.monotonic()))
        except (Py4JError, OSError):
            # The JVM is gone, and with it the queries: nothing is left to stop, the checkpoint says where to go on.
            return

    def _stop_between_batches(self, writer: ForeachBatch, query: StreamingQuery, deadline: float) -> None:
        """Stops one query while no batch is being written: an interrupt inside a write is replayed, but is noisy."""
        if writer.close(deadline - time.monotonic()):
            settled = time.monotonic() + SETTLE_SECONDS
            while query.isActive and query.status["isTriggerActive"] and time.monotonic() < settled:
                if writer.has_arrival.wait(IDLE_POLL_SECONDS):
                    break
        query.stop()

    def _start_stage(self) -> None:
        for stream in self._stages.pop(0):
            query = self._start_query(stream)
            if isinstance(stream.source, TableSource):
                _wait_for_source(query)

    def _start_query(self, stream: StreamSpec) -> StreamingQuery:
        writer = self._writers[stream.name]
        rows = self._read_kafka() if isinstance(stream.source, KafkaSource) else self._read_table(stream, stream.source)
        seconds = self._context.kafka_trigger_seconds if stream.trigger_seconds is None else stream.trigger_seconds
        trigger = {"availableNow": True} if self._bounded else {"processingTime": f"{seconds} seconds"}
        # The query's thread takes the pool along, and every job of it.
        pool = "ingest" if isinstance(stream.source, KafkaSource) else "derived"
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", pool)
        query = (
            rows.writeStream.queryName(stream.name)
            .outputMode("update" if stream.write_mode == "upsert" else "append")
            .option("checkpointLocation", self._context.checkpoint_uri(stream.main_table.name))
            .trigger(**trigger)
            .foreachBatch(writer)
            .start()
        )
        self._queries[stream.name] = (stream, writer, query)
        return query

    def _may_start_again(self, stream: StreamSpec, error: str) -> bool:
        """Whether a query died only because its source's process was slow to start. Counts the attempt."""
        attempts = self._attempts.get(stream.name, 0) + 1
        self._attempts[stream.name] = attempts
        return SOURCE_TIMED_OUT in error and attempts < SOURCE_ATTEMPTS

    def _read_kafka(self) -> DataFrame:
        options = {
            **self._context.kafka_options,
            "subscribe": self._context.topic,
            "startingOffsets": self._context.starting_offsets,
            "maxOffsetsPerTrigger": str(self._context.max_offsets_per_trigger),
            "failOnDataLoss": "true",
            "kafka.isolation.level": "read_committed",
        }
        return self._session.readStream.format("kafka").options(**options).load()

    def _read_table(self, stream: StreamSpec, source: TableSource) -> DataFrame:
        assert stream.transform is not None
        uri = self._context.table_uri(source.table.name)
        return stream.transform(read_commits(self._session, source, uri, self._context.storage_options))

    def _progress_of(self, stream: StreamSpec, writer: ForeachBatch, query: StreamingQuery) -> QueryProgress:
        reports = read_progresses(query)
        batches = [report for report in reports if is_batch(report)]
        seen, total = self._rows_in.get(stream.name, (-1, 0))
        total += sum(rows_of(r) for r in batches if r["batchId"] > seen)
        last = batches[-1] if batches else None
        if last is not None:
            self._rows_in[stream.name] = (last["batchId"], total)
        return QueryProgress(
            query=stream.name,
            query_id=str(query.id),
            batch_id=-1 if last is None else int(last["batchId"]),
            rows_in=total,
            rows_per_second=0.0 if last is None else float(last.get("processedRowsPerSecond", 0.0)),
            lag_records=lag_of(reports[-1]) if reports else None,
            watermark=reports[-1].get("eventTime", {}).get("watermark") if reports else None,
            table_versions=writer.table_versions(),
            last_commit_at=None if last is None else str(last["timestamp"]),
            busy=query.isActive and bool(query.status["isTriggerActive"]),
        )


def _wait_for_source(query: StreamingQuery) -> None:
    """Until the query has asked its source for the first time, or is dead, or the time is over."""
    deadline = time.monotonic() + SOURCE_SECONDS
    while query.isActive and time.monotonic() < deadline:
        message = query.status["message"]
        if not message.startswith(("Initializing", "Getting offsets")):
            return
        time.sleep(IDLE_POLL_SECONDS)


def _build_writer(stream: StreamSpec, context: StreamContext) -> BatchWriter:
    return (EventWriter if isinstance(stream.source, KafkaSource) else TableWriter)(stream, context)
