"""Holds a group for work that nobody may disturb: its run is paused for it, and goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import dagster as dg

from jobs.supervision.group_lock import LockMode, read_lock
from jobs.supervision.lease import read_control, write_control
from jobs.supervision.owned_groups import OwnedGroups, own_groups
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
) -> Iterator[OwnedGroups]:
    """Pauses the group, waits until its run has ended on every host, owns it for the block, and resumes it afterwards.

    Paused even where no run lives: the supervisor would start one as soon as a block that was killed has left the lock.
    A group that somebody has paused already, for another reason, stays so. It also stays paused, with the reason, where
    the block ended half-way through what must be finished first. Raises what `own_groups` does; a run that did not end
    within the time that a stop may take leaves the group paused.
    """
    control = read_control(instance, group.name)
    to_pause = not control.paused or control.pause_reason == reason
    # Without a `with` of its own: what is refused here leaves the group paused, as the message says.
    held = ExitStack()
    if to_pause:
        write_control(instance, group.name, "pause", by, reason)
        owned = held.enter_context(_own_once_free(group, mode, settings, instance))
    else:
        owned = held.enter_context(own_groups([group.name], mode, settings, instance))
    try:
        with held:
            yield owned
    finally:
        if to_pause and not is_half_done():
            write_control(instance, group.name, "resume", by)


@contextmanager
def _own_once_free(
    group: StreamGroup, mode: LockMode, settings: Settings, instance: dg.DagsterInstance
) -> Iterator[OwnedGroups]:
    """The supervisor's next tick asks the run to stop, and its batches in flight may take as long as the grace."""
    limit = settings.supervisor_interval_seconds * 2 + settings.stop_grace_seconds * 2
    deadline = time.monotonic() + limit
    while read_lock(settings.home, group.name).held and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    held = ExitStack()
    try:
        left = max(0.0, deadline - time.monotonic())
        owned = held.enter_context(own_groups([group.name], mode, settings, instance, wait_seconds=left))
    except GroupOwnedError as error:
        raise GroupOwnedError(
            f"{error} It did not end within {limit:.0f} s, and is paused now: is a supervisor running? When it has "
            "stopped, call this again, then headrace resume."
        ) from None
    with held:
        yield owned
