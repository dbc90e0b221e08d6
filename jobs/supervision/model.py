"""What the supervisor knows and what it may do, as frozen values. No I/O, no Dagster, no Spark.

Times are seconds since the epoch (float). A *run* is a Dagster run of the streaming job for one group; a *host* is
the process that such a run lives in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from resources.processes import ProcessIdentity

RunStatus = Literal["queued", "starting", "started", "canceling", "success", "failure", "canceled"]

FINISHED: frozenset[str] = frozenset({"success", "failure", "canceled"})


class Phase(StrEnum):
    """The state of a group, as the tick's message and the check `stream_running` name it."""

    LAUNCHING = "LAUNCHING"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUSPECT = "SUSPECT"
    STOPPING = "STOPPING"
    FAILING = "FAILING"
    BACKOFF = "BACKOFF"
    HELD_CRASH_LOOP = "HELD_CRASH_LOOP"
    HELD_OPERATOR = "HELD_OPERATOR"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    ORPHAN = "ORPHAN"
    DISABLED = "DISABLED"


class ExitKind(StrEnum):
    """How a host left, in its own words (run tag `headrace/exit`). A host that was killed says nothing."""

    STOPPED = "stopped"  # a stop record asked for it
    INTERRUPTED = "interrupted"  # Ctrl-C, SIGTERM, the platform went down
    TERMINATED = "terminated"  # Terminate in the UI
    OWNED = "owned"  # another process held the group's lock
    ERROR = "error"  # a failure that may pass
    UNAVAILABLE = "unavailable"  # a service that it needs did not answer
    TERMINAL = "terminal"  # a failure that a person must fix


class StopCause(StrEnum):
    """Why the supervisor (or a command) stops a run."""

    HUNG = "hung"
    STUCK = "stuck"
    UPGRADE = "upgrade"
    RECYCLE = "recycle"
    RESTART = "restart"
    PAUSE = "pause"
    DISABLED = "disabled"
    SHUTDOWN = "shutdown"


class StopStep(StrEnum):
    """How far up the ladder a stop has gone."""

    ASKED = "asked"
    CANCELLED = "cancelled"
    KILLED = "killed"


@dataclass(frozen=True)
class GroupSpec:
    """The desired state of a group. `version` is a fingerprint of code and settings: a run with another is replaced.

    `disabled_because` says why no run of the group is to live at all; empty for an enabled one.
    """

    name: str
    version: str
    disabled_because: str = ""


@dataclass(frozen=True)
class RunView:
    """One run of a group. `committed`: a batch was committed in it, so that earlier failures are forgiven.

    `by_hand`: a person launched it. `stop_cause` and `stop_step` are set when the supervisor stopped this run, and mark
    its cancellation as ours.
    """

    run_id: str
    status: RunStatus
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    version: str = ""
    exit_kind: ExitKind | None = None
    exit_reason: str = ""
    committed: bool = False
    by_hand: bool = False
    stop_cause: StopCause | None = None
    stop_step: StopStep | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run's status is final. Its process may still live."""
        return self.status in FINISHED


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of a run's host. `phase` is `starting`, `running` or `stopping`.

    `stalled_query` is the query that has been busy with one batch the longest, `stalled_seconds` how long.
    """

    run_id: str
    at: float
    process: ProcessIdentity
    phase: str
    epoch: int = 0
    jvm: ProcessIdentity | None = None
    stalled_query: str = ""
    stalled_seconds: float = 0.0


@dataclass(frozen=True)
class LockView:
    """The group's lock as another process sees it. `owner_mode` is `run` or `drain`; `text` names the owner."""

    held: bool
    owner_mode: str = ""
    owner_run_id: str = ""
    owner: ProcessIdentity | None = None
    owner_alive: bool | None = None
    text: str = ""


@dataclass(frozen=True)
class StopRecord:
    """A stop in progress: the host polls for it. The times say how far up the ladder it is."""

    run_id: str
    cause: StopCause
    why: str
    at: float
    cancelled_at: float | None = None
    killed_at: float | None = None

    @property
    def step(self) -> StopStep:
        """The highest step taken."""
        if self.killed_at is not None:
            return StopStep.KILLED
        return StopStep.ASKED if self.cancelled_at is None else StopStep.CANCELLED


@dataclass(frozen=True)
class Control:
    """What people asked for, and the stop in progress.

    By runs, not by times: a clock can be set back. `forgiven_runs` are those that had ended when a person last said
    resume or restart; what they ended with holds nothing any more. `restart_runs` lived when one said restart.
    `paused_streams` says by whom and why, by stream; `streams_restart_at` when a restart of one was asked for.
    """

    paused: bool = False
    paused_by: str = ""
    pause_reason: str = ""
    forgiven_runs: tuple[str, ...] = ()
    restart_runs: tuple[str, ...] = ()
    paused_streams: Mapping[str, str] = field(default_factory=dict)
    streams_restart_at: Mapping[str, float] = field(default_factory=dict)
    stop: StopRecord | None = None


@dataclass(frozen=True)
class SupervisorState:
    """A cache between ticks (the sensor's cursor). Losing it costs one more period of suspicion, nothing else.

    `reason` is for those who look at the cursor: what the last tick said. `run_id` is the run that was looked at.
    """

    phase: Phase | None = None
    phase_since: float = 0.0
    paused_streams: tuple[str, ...] = ()
    reason: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class Launch:
    """Request a run. Two requests with one `run_key` make one run."""

    run_key: str


@dataclass(frozen=True)
class WriteStop:
    """Write the stop record, and mark the run with its cause and step, before anything harder is done."""

    record: StopRecord


@dataclass(frozen=True)
class CancelRun:
    """Ask Dagster to terminate the run."""

    run_id: str


@dataclass(frozen=True)
class KillProcess:
    """SIGKILL exactly this process, if it still is this process."""

    process: ProcessIdentity


@dataclass(frozen=True)
class ReportRunEnded:
    """Mark a run failed whose process is gone (`cancelled`: canceled, for a person had asked for that)."""

    run_id: str
    message: str
    cancelled: bool = False


Action = Launch | WriteStop | CancelRun | KillProcess | ReportRunEnded


@dataclass(frozen=True)
class Decision:
    """What to do now, in order, and how to explain it."""

    actions: tuple[Action, ...]
    state: SupervisorState
    phase: Phase
    reason: str
