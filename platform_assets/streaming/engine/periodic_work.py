"""What a running group does besides its queries: each task at its interval, one after the other on one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from platform_assets.errors import HeadraceError

# A stop of the group waits for this work: half a second more goes unnoticed.
_INTERRUPT_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """`run` is called every `seconds`, the first time after that long."""

    seconds: float
    run: Callable[[], object]


class PeriodicWork:
    """Runs tasks until the first one fails. `classify` makes the error of what is not a `HeadraceError` already."""

    def __init__(self, tasks: list[Task], classify: Callable[[str], HeadraceError]) -> None:
        self.error: HeadraceError | None = None
        """What ended the work; None while all is well."""
        self._tasks = tasks
        self._classify = classify
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="periodic-work", daemon=True)

    def start(self) -> None:
        """Starts the thread; call it once."""
        self._thread.start()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called: a long task looks here between its parts, for `stop` waits for it."""
        return self._stopping.is_set()

    def begin_stop(self) -> None:
        """No task begins from here on. Does not wait for the one in hand."""
        self._stopping.set()

    def stop(self, timeout_seconds: float, interrupt: Callable[[], None]) -> None:
        """Lets the task in hand end, within the timeout; no other begins.

        `interrupt` is called until it has ended: it ends what may be ended, and a task may just be about to begin that.
        """
        self.begin_stop()
        deadline = time.monotonic() + timeout_seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            interrupt()
            self._thread.join(min(_INTERRUPT_SECONDS, max(0.0, deadline - time.monotonic())))

    def _work(self) -> None:
        due = {number: time.monotonic() + task.seconds for number, task in enumerate(self._tasks)}
        while due:
            number = min(due, key=lambda n: due[n])
            if self._stopping.wait(max(0.0, due[number] - time.monotonic())):
                return
            try:
                self._tasks[number].run()
            except HeadraceError as error:
                self.error = error
                return
            except Exception as error:  # noqa: BLE001
                # Whatever it is, it must reach the host and not end silently with this thread.
                self.error = self._classify(str(error))
                return
            due[number] = time.monotonic() + self._tasks[number].seconds
