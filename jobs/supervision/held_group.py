"""Holds a group for work that nobody may disturb: its run is paused for it, and goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from jobs.supervision.group_lock import LockMode, hold_group_lock, read_lock
from jobs.supervision.lease import read_control, write_control
from platform_assets.errors import GroupOwnedError
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

_POLL_SECONDS = 0.5


@contextmanager
def hold_group(
    group: StreamGroup,
    mode: LockMode,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    reason: str,
    is_half_done: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Pauses the group, waits until its run has ended, holds its lock for the block, and resumes it afterwards.

    Paused even where no run lives: the supervisor would start one as soon as a block that was killed has left the lock.
    A group that somebody has paused already, for another reason, stays so. It also stays paused, with the reason, where
    the block ended half-way through what must be finished first. Raises `GroupOwnedError`.
    """
    control = read_control(instance, group.name)
    to_pause = not control.paused or control.pause_reason == reason
    if to_pause:
        write_control(instance, group.name, "pause", by, reason)
        _wait_until_free(group, settings)
    try:
        with hold_group_lock(settings.home, group.name, mode):
            yield
    finally:
        if to_pause and not is_half_done():
            write_control(instance, group.name, "resume", by)


def _wait_until_free(group: StreamGroup, settings: Settings) -> None:
    """The supervisor's next tick asks the run to stop, and its batches in flight may take as long as the grace."""
    limit = settings.supervisor_interval_seconds * 2 + settings.stop_grace_seconds * 2
    deadline = time.monotonic() + limit
    while (lock := read_lock(settings.home, group.name)).held:
        if time.monotonic() > deadline:
            raise GroupOwnedError(
                f"The stream group {group.name} is still owned by {lock.text} after {limit:.0f} s. It is paused now: "
                "is a supervisor running? When it has stopped, call this again, then headrace resume."
            )
        time.sleep(_POLL_SECONDS)
