"""What Spark calls with each micro-batch of a query: errors are kept, and a stop finds the query between two batches.

`StreamingQuery.stop()` interrupts the query's thread wherever it is and waits for it. Inside a write that is noisy
(and replayed); while the thread waits for Python, which no interrupt reaches, the stop would wait for ever. So a batch
that comes when the gate is closed waits inside the JVM, on the query's own thread, where the stop's interrupt ends it
and Spark takes that for a clean end.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from platform_assets.errors import HeadraceError, QueryFailedError
from platform_assets.streaming.engine.query_errors import classify_failure, read_error

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.writer import DeltaWriter

# Spark takes the error of an interrupted batch for a clean end where it finds such a text in it. Its pattern recurses
# for each character that follows: the whole text of Java's error overflows the stack of the query's thread, which then
# ends with a thousand lines of trace (Spark 4.2, `StreamExecution.PROXY_ERROR`).
_INTERRUPTED = "py4j.protocol.Py4JJavaError: An error occurred while calling a batch: "
_INTERRUPTIONS = (
    "java.lang.InterruptedException",
    "java.io.InterruptedIOException",
    "java.nio.channels.ClosedByInterruptException",
)

# Far beyond any stop's grace: the caller that closes the gate stops the query next.
_STOP_LIMIT_MILLIS = 600_000


class InterruptedBatchError(Exception):
    """A batch was interrupted by its query's stop: raised to Spark alone, which ends the query cleanly."""


class BatchWriter(Protocol):
    """Writes the micro-batches of one query, each once. One instance a query."""

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        """Writes one micro-batch. Called for one batch after the other, again for a batch that did not end."""

    @property
    def tables(self) -> Mapping[str, DeltaWriter]:
        """The tables that it writes, by name. From any thread."""


class ForeachBatch:
    """The function for `foreachBatch` of one query."""

    def __init__(self, query: str, writer: BatchWriter, context: StreamContext) -> None:
        self.error: HeadraceError | None = None
        """What the last batch failed with. Spark passes on only its text, and that among much else."""
        self.has_arrival = threading.Event()
        """Whether a batch waits at the closed gate: all before it are recorded in the checkpoint."""
        self._query = query
        self._writer = writer
        self._context = context
        self._writing = threading.Lock()
        self._closed = threading.Event()

    def __call__(self, batch_df: DataFrame, batch_id: int) -> None:
        """Writes the batch; at a closed gate it waits for the stop instead."""
        from py4j.protocol import Py4JJavaError

        try:
            self._write(batch_df, batch_id)
        except Py4JJavaError as error:
            text = str(error)
            if (name := next((name for name in _INTERRUPTIONS if name in text), None)) is None:
                raise
            raise InterruptedBatchError(f"{_INTERRUPTED}{name}") from None

    def _write(self, batch_df: DataFrame, batch_id: int) -> None:
        with self._writing:
            if self._closed.is_set():
                self._wait_for_stop(batch_df)
            try:
                self._writer.write(batch_df, batch_id)
            except HeadraceError as error:
                self.error = error
                raise
            except Exception as error:
                self.error = classify_failure(self._query, read_error(error), self._context)
                raise

    def open(self) -> None:
        """Lets batches be written again. Called while no query runs."""
        self._closed.clear()
        self.has_arrival.clear()

    def close(self, timeout_seconds: float) -> bool:
        """Lets no further batch be written. Returns whether the one in flight was written within the timeout."""
        self._closed.set()
        if self.has_arrival.is_set() or not self._writing.acquire(timeout=max(0.0, timeout_seconds)):
            return self.has_arrival.is_set()
        self._writing.release()
        return True

    def _wait_for_stop(self, batch_df: DataFrame) -> None:
        self.has_arrival.set()
        jvm = batch_df.sparkSession._jvm
        assert jvm is not None
        # A callback's calls run on the JVM thread that waits for the callback: the query's.
        jvm.java.lang.Thread.sleep(_STOP_LIMIT_MILLIS)
        raise QueryFailedError("The query was to be stopped, and was not.")
