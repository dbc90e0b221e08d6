"""Bounded mode: every stream catches up with what Kafka held at the start, then everything stops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from jobs.supervision.application import open_application
from jobs.supervision.group_lock import hold_group_lock
from jobs.supervision.host import HostPhase, StreamWishes, host_group
from jobs.supervision.model import ExitKind, ProcessIdentity
from platform_assets.errors import HeadraceError
from platform_assets.streaming.specs import StreamGroup
from resources.settings import Settings

if TYPE_CHECKING:
    from jobs.supervision.table_events import TableEvents
    from platform_assets.streaming.progress import QueryProgress

# A line a query on each change, at most this often: a log of a long drain stays readable.
_LINE_SECONDS = 5.0

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


def drain_streams(
    group: StreamGroup,
    settings: Settings,
    write_line: Callable[[str], None] | None = None,
    *,
    close_windows: bool = False,
    events: TableEvents | None = None,
) -> int:
    """Runs the group's streams until nothing that Kafka held at the start is unread. Returns an exit code.

    The same loop and engine as the supervised run, under the same lock: refused with one line while another process
    owns the group, and the supervisor launches nothing until it ends. 0: done; 1: failed or refused, with one line
    that says why; 130: stopped by SIGINT or SIGTERM after the batches in flight. What is not read then is read by the
    next drain or run. Lines go to stderr unless `write_line` is given. `close_windows`: windows and sessions whose time
    is over by the clock are closed, as if the shop had been silent; else those near the last event stay open. `events`
    tell Dagster what was written.
    """
    write = write_line or _write_to_stderr
    try:
        with hold_group_lock(settings.home, group.name, "drain") as lock_fd:
            end = host_group(
                lambda: open_application(group, settings, lock_fd, close_windows=close_windows),
                _Terminal(group.name, write, events),
                grace_seconds=settings.stop_grace_seconds,
                bounded=True,
            )
    except HeadraceError as error:
        write(f"drain {group.name}: {error}")
        return EXIT_FAILED
    write(f"drain {group.name}: {end.reason}")
    return EXIT_DONE if end.finished else EXIT_INTERRUPTED


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class _Terminal:
    """The `Outside` of a drain: lines for a person, signals from them. Needs no instance, so it works beside any."""

    def __init__(self, group: str, write: Callable[[str], None], events: TableEvents | None) -> None:
        self._group = group
        self._write = write
        self._events = events
        self._phase: HostPhase | None = None
        self._written: dict[str, tuple[float, int]] = {}

    def report(self, phase: HostPhase, progress: Mapping[str, QueryProgress], jvm: ProcessIdentity | None) -> None:
        """A line at each change of phase, and a line a query that has moved."""
        if phase != self._phase:
            self._phase = phase
            words = {"starting": "starting Spark", "running": "reading", "stopping": "finishing the batches in flight"}
            self._write(f"drain {self._group}: {words[phase]}")
        now = time.monotonic()
        if self._events is not None:
            self._events.publish(progress, now)
        for name, query in progress.items():
            at, rows = self._written.get(name, (0.0, 0))
            if query.rows_in != rows and now - at >= _LINE_SECONDS:
                self._written[name] = (now, query.rows_in)
                left = "" if query.lag_records is None else f", {query.lag_records:,} records to go"
                self._write(f"drain {self._group}: {name}: {query.rows_in:,} rows{left}")

    def read_wishes(self) -> StreamWishes:
        """None: who drains wants everything read, paused streams too."""
        return StreamWishes()

    def read_stop(self, *, signalled: bool) -> tuple[ExitKind, str] | None:
        """Only signals stop a drain before its end."""
        return (ExitKind.INTERRUPTED, "interrupted; the rest is read by the next run or drain") if signalled else None
