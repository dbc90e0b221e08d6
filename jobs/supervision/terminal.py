"""The `HostPort` of a bounded run that a person started: lines for them, signals from them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from jobs.supervision.host import HostPhase, StreamRequests
from jobs.supervision.model import ExitKind
from resources.processes import ProcessIdentity

if TYPE_CHECKING:
    from jobs.supervision.table_events import TableEvents
    from platform_assets.streaming.progress import QueryProgress

# A line a query on each change, at most this often: a log of a long run stays readable.
_LINE_SECONDS = 5.0

WriteLine = Callable[[str], None]


def write_to_stderr(line: str) -> None:
    """Writes at once, whether or not stderr is buffered."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Terminal:
    """Lines begin with `name`. It needs no instance of Dagster, so it works next to any; `events` name the tables."""

    def __init__(self, name: str, write: WriteLine, events: TableEvents | None = None) -> None:
        self._name = name
        self._write = write
        self._events = events
        self._phase: HostPhase | None = None
        self._written: dict[str, tuple[float, int]] = {}

    def report(self, phase: HostPhase, progress: Mapping[str, QueryProgress], jvm: ProcessIdentity | None) -> None:
        """A line at each change of phase, and a line a query that has moved."""
        if phase != self._phase:
            self._phase = phase
            words = {"starting": "starting", "running": "reading", "stopping": "finishing the batches in flight"}
            self._write(f"{self._name}: {words[phase]}")
        now = time.monotonic()
        if self._events is not None:
            self._events.publish(progress, now)
        for name, query in progress.items():
            at, rows = self._written.get(name, (0.0, 0))
            if query.rows_in != rows and now - at >= _LINE_SECONDS:
                self._written[name] = (now, query.rows_in)
                left = "" if query.lag_records is None else f", {query.lag_records:,} records to go"
                self._write(f"{self._name}: {name}: {query.rows_in:,} rows{left}")

    def read_requests(self) -> StreamRequests:
        """Returns no requests: a run by hand reads every stream, paused ones too."""
        return StreamRequests()

    def read_stop(self, *, signalled: bool) -> tuple[ExitKind, str] | None:
        """Reads signals: nothing else stops it before its end."""
        return (ExitKind.INTERRUPTED, "interrupted; the rest is read by the next run or drain") if signalled else None
