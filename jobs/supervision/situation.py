"""What the supervisor knows of one group at one moment: the input of `decide`, and a verdict as its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jobs.supervision.model import (
    Action,
    Control,
    GroupSpec,
    Heartbeat,
    LockView,
    Phase,
    RunView,
    StopCause,
    StopRecord,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.policy import Policy

Verdict = tuple[Sequence[Action], Phase, str]
"""What to do, in order; the group's phase; the reason in words."""


@dataclass(frozen=True)
class Situation:
    """The desired state of a group, reality, and what was seen of it before. Times are seconds since the epoch.

    `runs` are the group's newest runs, newest first (at least three times `crash_loop_failures` of them where they
    exist). `process_alive` is about `heartbeat.process`; None means it cannot be known (another host).
    """

    now: float
    spec: GroupSpec
    runs: Sequence[RunView]
    heartbeat: Heartbeat | None
    process_alive: bool | None
    lock: LockView
    control: Control
    state: SupervisorState
    policy: Policy

    @cached_property
    def host(self) -> RunView | None:
        """The unfinished run that the group is hosted by; None where all have ended.

        Of several it is the one that beats, else one that runs, else the oldest: first in the queue.
        """
        live = [run for run in self.runs if not run.is_finished]
        for run in live:
            if self.heartbeat is not None and run.run_id == self.heartbeat.run_id:
                return run
        started = [run for run in live if run.status in ("started", "canceling")]
        found = started or live
        return found[-1] if found else None

    @property
    def watched_run_id(self) -> str:
        """The run that there is to watch: the host, or whose process holds the lock; empty for none."""
        return self.host.run_id if self.host is not None else self.lock.owner_run_id

    def watched_for(self, phase: Phase) -> float:
        """How many seconds this supervisor itself has watched the group in a phase; 0 for another than the last."""
        return self.now - self.state.phase_since if self.state.phase == phase else 0.0


@dataclass(frozen=True)
class LiveRun:
    """The run, its situation, and its own heartbeat: None before its first."""

    run: RunView
    seen: Situation
    beat: Heartbeat | None

    @property
    def short(self) -> str:
        """What people call the run by."""
        return f"run {self.run.run_id[:8]}"

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return self.seen.now - (self.run.started_at or self.run.created_at)

    def ask_to_stop(self, cause: StopCause, why: str) -> Verdict:
        """The first step of the stop ladder."""
        record = StopRecord(self.run.run_id, cause, why, self.seen.now)
        return [WriteStop(record)], Phase.STOPPING, f"{self.short} is asked to stop: {why}"
