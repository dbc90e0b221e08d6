"""The owner of a group, by its last heartbeat: a run, or an operation such as a backup. Pure.

An operation beats under an id of its own with the phase `operating`, and ends with `released`. Code that knows of no
operations finds no run of that id and leaves the record alone, but its hosts see the epoch, and stop.
"""

from __future__ import annotations

from enum import Enum
from uuid import uuid4

from jobs.supervision.group_lock import LockMode, describe_owner
from jobs.supervision.model import Heartbeat, LockView, RunView, StopStep
from jobs.supervision.policy import Policy

OPERATING, RELEASED = "operating", "released"


class Hold(Enum):
    """Whether a lease can be taken over."""

    FREE = "free"
    SILENT = "silent"  # by its last heartbeat gone, unless the two hosts' clocks differ
    HELD = "held"


def name_operation(mode: LockMode) -> str:
    """A new id for an operation's heartbeats, where those of a run have the run's."""
    return f"{mode}:{uuid4().hex[:8]}"


def is_operation(beat: Heartbeat) -> bool:
    """Whether the heartbeat is of an operation, and of no run."""
    return beat.phase in (OPERATING, RELEASED)


def judge_lease(beat: Heartbeat | None, run: RunView | None, alive: bool | None, now: float, policy: Policy) -> Hold:
    """Whether the last heartbeat's owner still owns the group. The caller holds the group's lock of its own host.

    `run` is the run of that heartbeat, None where there is none; `alive` whether its process or JVM lives, None for one
    on another host.
    """
    if beat is None or beat.phase == RELEASED or alive is False:
        return Hold.FREE
    # It says that it leaves before it closes anything, and Dagster calls it ended when all is closed.
    if run is not None and run.is_finished and run.exit_kind is not None and run.stop_step is not StopStep.KILLED:
        return Hold.FREE
    is_fresh = abs(now - beat.at) <= policy.silence_limit(beat.phase)
    # A process outlives its operation, whose end may not have come into the storage.
    is_held = is_fresh or (alive is True and not is_operation(beat))
    return Hold.HELD if is_held else Hold.SILENT


def view_operation(beat: Heartbeat | None, alive: bool | None, now: float, policy: Policy) -> LockView:
    """An operation's lease as a supervisor sees it that finds the lock of its own host free."""
    if beat is None or not is_operation(beat) or judge_lease(beat, None, alive, now, policy) is not Hold.HELD:
        return LockView(held=False)
    mode = beat.run_id.partition(":")[0]
    return LockView(held=True, owner_mode=mode, owner=beat.process, owner_alive=alive, text=describe(beat, now))


def describe(beat: Heartbeat, now: float) -> str:
    """What a person reads about the owner, with the name of its host."""
    mode, run_id = (beat.run_id.partition(":")[0], "") if is_operation(beat) else ("run", beat.run_id)
    process = beat.process
    return describe_owner(
        mode, run_id, f"pid {process.pid} on {process.host}, heard of {max(0.0, now - beat.at):.0f} s ago"
    )
