"""SIGINT and SIGTERM as an event that a loop waits on.

Dagster's handler raises in the middle of whatever runs, and PySpark replaces it by one that cancels all jobs and
raises KeyboardInterrupt inside py4j (measured: a stop that should finish a batch tears it apart). Ours set an event.
"""

from __future__ import annotations

import signal
import threading
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, SIGINT and SIGTERM set `received`. Outside the main thread it is a plain event.

    The handler does not set the event itself: it runs on the main thread, which may be within `received.wait` and hold
    the event's lock, and would wait for itself for ever. A queue may be filled there, and a thread sets the event.

    Call `install` again after a Spark session was made: PySpark puts its own SIGINT handler in.
    """

    def __init__(self) -> None:
        self.received = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self._signals: SimpleQueue[bool] = SimpleQueue()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=self._set_event, name="stop-signals", daemon=True).start()
            self._before = {number: signal.getsignal(number) for number in _NUMBERS}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        self._signals.put(False)

    def install(self) -> None:
        """Puts our handlers in, over whatever is there."""
        for number in self._before:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.put(True)

    def _set_event(self) -> None:
        while self._signals.get():
            self.received.set()
