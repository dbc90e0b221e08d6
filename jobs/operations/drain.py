"""Bounded mode: every stream catches up with what Kafka held at the start, then everything stops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import dagster as dg

from jobs.supervision.application import open_application
from jobs.supervision.host import Application, HostEnd, host_group
from jobs.supervision.owned_groups import own_groups
from jobs.supervision.terminal import Terminal, WriteLine, write_to_stderr
from platform_assets.errors import HeadraceError, QueryFailedError
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

if TYPE_CHECKING:
    from jobs.supervision.table_events import TableEvents

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
# On a busy machine Spark gives a Python process ten seconds to start, and fails the query after that. Nobody restarts a
# drain, as the supervisor does a run.
_TRIES = 3


def drain_streams(
    group: StreamGroup,
    settings: Settings,
    write_line: WriteLine | None = None,
    *,
    close_windows: bool = False,
    events: TableEvents | None = None,
    instance: dg.DagsterInstance | None = None,
) -> int:
    """Runs the group's streams until nothing that Kafka held at the start is unread. Returns an exit code.

    The same loop and engine as the supervised run, under the same lock and lease: refused with one line while another
    process of any host owns the group, and the supervisor launches nothing until it ends. 0: done; 1: failed or
    refused, with one line that says why (a query that failed is begun twice more before); 130: stopped by SIGINT or
    SIGTERM after the batches in flight. What is not read then is read by the next drain or run. Lines go to stderr
    unless `write_line` is given. `close_windows`: windows and sessions whose time is over by the clock are closed, as
    if the shop had been silent; else those near the last event stay open. `events` tell Dagster what was written;
    `instance` is that of the settings where none is given.
    """
    write = write_line or write_to_stderr
    try:
        with own_groups([group.name], "drain", settings, instance) as owned:
            [lock_fd], check = owned.lock_fds, owned.check_lease
            end = _host_until_read(
                lambda: open_application(group, settings, lock_fd, close_windows=close_windows, check_lease=check),
                Terminal(f"drain {group.name}", write, events),
                settings.stop_grace_seconds,
                lambda error: write(f"drain {group.name}: {error} It is tried again, from the last committed batch."),
            )
    except HeadraceError as error:
        write(f"drain {group.name}: {error}")
        return EXIT_FAILED
    write(f"drain {group.name}: {end.reason}")
    return EXIT_DONE if end.finished else EXIT_INTERRUPTED


def _host_until_read(
    open_it: Callable[[], AbstractContextManager[Application]],
    port: Terminal,
    grace_seconds: float,
    say: Callable[[QueryFailedError], None],
) -> HostEnd:
    for _ in range(_TRIES - 1):
        try:
            return host_group(open_it, port, grace_seconds=grace_seconds, bounded=True)
        except QueryFailedError as error:
            say(error)
    return host_group(open_it, port, grace_seconds=grace_seconds, bounded=True)
