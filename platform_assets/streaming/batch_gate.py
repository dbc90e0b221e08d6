"""Lets the micro-batches of one query be written one at a time, and none any more once the query is to be stopped.

`StreamingQuery.stop()` interrupts the query's thread wherever it is and waits for it. Inside a write that is noisy
(and replayed); while the thread waits for Python, which no interrupt reaches, the stop would wait for ever. So a batch
that comes to a closed gate waits inside the JVM, on the query's own thread, where the stop's interrupt ends it and
Spark takes that for a clean end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platform_assets.errors import QueryFailedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Far beyond any stop's grace: whoever closes a gate stops the query next.
_STOP_LIMIT_MILLIS = 600_000


class BatchGate:
    """One a query: its writer passes each batch through `admit`, who stops the query calls `close` before."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self.has_arrival = threading.Event()
        """Whether a batch waits at the closed gate: all before it are recorded in the checkpoint."""

    @contextmanager
    def admit(self, session: SparkSession) -> Iterator[None]:
        """Holds the gate while the block writes a batch. At a closed gate the block is not run: the stop ends it."""
        with self._writing:
            if self._closed.is_set():
                self.has_arrival.set()
                assert session._jvm is not None
                # A callback's calls run on the JVM thread that waits for the callback: the query's.
                session._jvm.java.lang.Thread.sleep(_STOP_LIMIT_MILLIS)
                raise QueryFailedError("The query was to be stopped, and was not.")
            yield

    def close(self, timeout_seconds: float) -> bool:
        """Admits no further batch. Returns whether the one in flight was written within the timeout."""
        self._closed.set()
        if self.has_arrival.is_set() or not self._writing.acquire(timeout=max(0.0, timeout_seconds)):
            return self.has_arrival.is_set()
        self._writing.release()
        return True
