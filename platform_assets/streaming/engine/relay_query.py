"""A relay as a query: in real-time mode a record is passed on milliseconds after it came, not with the next batch.

What Spark 4.2 does in that mode, and what stands against it here:

- It holds one task slot for each partition of the topic, for good, and never reads a partition that has none, without a
  word: `RelayGroup` counts both.
- It reports no lag that could be believed: the newest record that was passed on says where its partition is.
- A stop, or the end of the process, abandons the batch. What it had passed on is passed on again at the next start:
  readers of the topics know a record by its id.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.engine.query_errors import classify_failure, read_error
from platform_assets.streaming.ingest.kafka_ranges import build_options
from platform_assets.streaming.progress import QueryProgress, is_batch, read_progresses

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.errors import HeadraceError
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.relay_spec import Relay, RelayStream
    from platform_assets.streaming.topic_snapshot import Relayed

_log = logging.getLogger(__name__)

# Each look asks the broker for the ends of two topics and reads a record of each partition.
_LAG_SECONDS = 10.0
# A task that is told to end does so when Kafka's client looks up; one that does not is left to the JVM's end.
_TASKS_SECONDS = 5.0
_TASKS_POLL_SECONDS = 0.05
# Kafka's producer waits five milliseconds for more records by itself, which is longer than all that Spark does.
_SINK_OPTIONS = {"kafka.linger.ms": "0"}


class RelayQuery:
    """One relay's query. Used from the group's thread."""

    def __init__(self, session: SparkSession, stream: RelayStream, relay: Relay, context: StreamContext) -> None:
        self.name = stream.name
        self.started_at = 0.0
        """Seconds since the epoch of the newest start; 0 before the first."""
        self.built_in = ""
        """What of the relay's inputs was built into the query at its start (`Relay.name_built_in`)."""
        self._session, self._relay, self._context = session, relay, context
        self._ingest = context.ingest[stream.name]
        self._checkpoint = Checkpoint.of(context, stream.checkpoint)
        self._query: StreamingQuery | None = None
        self._rows_in = (-1, 0)
        self._relayed: Relayed | None = None
        self._stands_still = False
        self._looked_at = float("-inf")

    @property
    def is_active(self) -> bool:
        """Whether the query runs."""
        return self._query is not None and self._query.isActive

    def start(self, *, bounded: bool = False) -> None:
        """Starts the query, or starts it again after a stop. `bounded`: it ends when it has read what was there."""
        self.built_in = self._relay.name_built_in()
        options = {
            **build_options(self._context),
            "subscribe": self._ingest.topic,
            "startingOffsets": self._find_start(),
        }
        seconds = self._context.real_time_batch_seconds
        if bounded:
            trigger: dict[str, str | bool] = {"availableNow": True}
        elif seconds is None:
            trigger = {"processingTime": "0 seconds"}
        else:
            trigger = {"realTime": f"{seconds:.0f} seconds"}
        records = self._session.readStream.format("kafka").options(**options).load()
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", "ingest")
        self.started_at = time.time()
        self._query = (
            self._relay.transform(self._session, records)
            .writeStream.format("kafka")
            .queryName(self.name)
            .outputMode("update")
            .options(**{**self._context.kafka_options, **_SINK_OPTIONS})
            .option("checkpointLocation", self._checkpoint.uri)
            .trigger(**trigger)  # type: ignore[arg-type]
            .start()
        )

    def stop(self) -> None:
        """Stops the query at once: in real-time mode no batch ends for minutes, and what was passed on stays so."""
        if self._query is None:
            return
        context = self._session.sparkContext
        # Each task waits for records, and reports its end as an error with a stack trace, three times over.
        context.setLogLevel("OFF")
        try:
            self._query.stop()
            deadline = time.monotonic() + _TASKS_SECONDS
            while _has_tasks(context) and time.monotonic() < deadline:
                time.sleep(_TASKS_POLL_SECONDS)
        finally:
            context.setLogLevel("WARN")

    def failure(self) -> HeadraceError | None:
        """Why the query died, classified; None while it runs, was stopped, or came to its end."""
        if self._query is None or self._query.isActive or (error := self._query.exception()) is None:
            return None
        return classify_failure(self.name, read_error(error), self._context)

    def progress(self) -> QueryProgress | None:
        """How far the query is; None before its first start.

        A batch lasts for minutes by intent. The query is busy, so that it can be stuck, while records wait of which
        none was passed on since the look before.
        """
        if self._query is None:
            return None
        batches = [report for report in read_progresses(self._query) if is_batch(report)]
        last = batches[-1] if batches else None
        if last is not None:
            seen, total = self._rows_in
            rows = sum(int(report["numInputRows"]) for report in batches if report["batchId"] > seen)
            self._rows_in = (last["batchId"], total + rows)
        self._measure_lag()
        return QueryProgress(
            query=self.name,
            query_id=str(self._query.id),
            batch_id=-1 if last is None else int(last["batchId"]),
            rows_in=self._rows_in[1],
            rows_per_second=0.0 if last is None else float(last.get("processedRowsPerSecond", 0.0)),
            lag_records=None if self._relayed is None else self._relayed.waiting,
            watermark=None,
            table_versions={},
            last_commit_at=None if last is None else str(last["timestamp"]),
            busy=self.is_active and self._stands_still,
        )

    def _measure_lag(self) -> None:
        """Looks at what was passed on and what waits; where nobody answers, it stays as it was."""
        if self._ingest.fetch_relayed is None or time.monotonic() - self._looked_at < _LAG_SECONDS:
            return
        self._looked_at = time.monotonic()
        if (found := self._ingest.fetch_relayed(self._read_start())) is not None:
            before = self._relayed
            self._stands_still = before is not None and bool(found.waiting) and found.passed_on == before.passed_on
            self._relayed = found

    def _read_start(self) -> dict[int, int]:
        """The offsets at which the batch in hand began: nothing before them has to be passed on any more."""
        return dict((self._checkpoint.read_next_offsets() or {}).get(self._ingest.topic, {}))

    def _find_start(self) -> str:
        """Finds where a query without a checkpoint begins, as Spark's option has it: at what comes from now on.

        So does one whose next records are gone, or whose topic was created again: an alert about what happened long
        before would come too late, and what was not passed on is for the ledger to name.
        """
        begun = self._checkpoint.read_next_offsets()
        if begun is None or self._ingest.fetch_held is None:
            return "latest"
        held = self._ingest.fetch_held().offsets
        next_offsets = begun.get(self._ingest.topic, {})
        lost = {
            partition: offset
            for partition, offset in next_offsets.items()
            if partition not in held or not held[partition][0] <= offset <= held[partition][1]
        }
        if set(begun) - {self._ingest.topic} or lost:
            _log.warning(
                "The checkpoint of %s is at offsets %s of topic %s, which Kafka no longer holds: it holds %s. It "
                "goes on with the first record of each partition that is left. The check scored names what it missed.",
                self.name, json.dumps(lost or next_offsets), self._ingest.topic, json.dumps(held),
            )  # fmt: skip
            self._checkpoint.folder.remove("")
            return "earliest"
        return "latest"


def _has_tasks(context: SparkContext) -> bool:
    """Whether tasks run, or their end was not reported yet: a stage is over before its tasks are."""
    if context.statusTracker().getActiveStageIds():
        return True
    return any(executor.numRunningTasks() for executor in context._jsc.sc().statusTracker().getExecutorInfos())
