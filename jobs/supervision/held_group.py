"""Holds a group for work that nobody may disturb: its run is paused for it, and goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import dagster as dg

from jobs.supervision.group_lock import LockMode, read_lock
from jobs.supervision.lease import read_control, read_records, request_shutdown, write_control
from jobs.supervision.lease_owner import is_operation
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
def own_resting_groups(
    names: Sequence[str], mode: LockMode, settings: Settings, instance: dg.DagsterInstance
) -> Iterator[OwnedGroups]:
    """Has the runs of these groups end at a batch boundary, and owns the groups for the block.

    Nothing is recorded that somebody would have to take back: a run that is asked to stop ends cleanly, and the
    supervisor starts another one once nobody owns the group, also where this process is killed at any moment. A group
    that is paused stays so. Raises what `own_groups` does, for a group that has not become free within the time that a
    stop may take.
    """
    deadline = time.monotonic() + _stop_limit(settings)
    owned: list[OwnedGroups] = []
    with ExitStack() as held:
        for name in names:  # all at once: a group then rests no longer than the slowest one takes to stop
            _ask_to_rest(instance, name, mode)
        for name in names:
            owned.append(held.enter_context(_own_resting(name, mode, settings, instance, deadline)))
        yield OwnedGroups.of(owned)


@contextmanager
def _own_resting(
    name: str, mode: LockMode, settings: Settings, instance: dg.DagsterInstance, deadline: float
) -> Iterator[OwnedGroups]:
    held = ExitStack()
    while True:
        try:
            owned = held.enter_context(own_groups([name], mode, settings, instance))
            break
        except GroupOwnedError:
            if time.monotonic() >= deadline:
                raise
            # A run that has started since, before the group was ours, has not been asked.
            _ask_to_rest(instance, name, mode)
            time.sleep(_POLL_SECONDS)
    with held:
        yield owned


def _ask_to_rest(instance: dg.DagsterInstance, name: str, mode: LockMode) -> None:
    """Asks the group's run to stop, once: the supervisor cancels one that does not end, by the time of the record.

    An operation, such as a drain, is not asked.
    """
    records = read_records(instance, [name])[name]
    if records.report is None or is_operation(records.report.heartbeat):
        return
    stop = records.control.stop
    if stop is None or stop.run_id != records.report.heartbeat.run_id:
        request_shutdown(instance, name, f"it rests for a {mode}")


def _stop_limit(settings: Settings) -> float:
    """Seconds that the end of a run may take: its batches in flight may take as long as the grace."""
    return settings.supervisor_interval_seconds * 2.0 + settings.stop_grace_seconds * 2.0


@contextmanager
def _own_once_free(
    group: StreamGroup, mode: LockMode, settings: Settings, instance: dg.DagsterInstance
) -> Iterator[OwnedGroups]:
    """The supervisor's next tick asks the run to stop."""
    limit = _stop_limit(settings)
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
