"""SIGINT and SIGTERM as an event that a loop waits on.

Dagster's handler raises in the middle of whatever runs, and PySpark replaces it by one that cancels all jobs and
raises KeyboardInterrupt inside py4j (measured: a stop that should finish a batch tears it apart). Ours set an event.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """While entered, SIGINT and SIGTERM set `received`. Outside the main thread it is a plain event.

    Call `install` again after a Spark session was made: PySpark puts its own SIGINT handler in.
    """

    def __init__(self) -> None:
        self.received = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Puts our handlers in, over whatever is there."""
        for number in self._before:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received.set()
