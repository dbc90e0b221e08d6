"""Builds what the supervisor sees of one group, each value as it is in a healthy life unless a test says otherwise."""

from __future__ import annotations

from dataclasses import replace

from jobs.supervision.decide import decide
from jobs.supervision.model import (
    Control,
    Decision,
    GroupSpec,
    Heartbeat,
    LockView,
    Phase,
    RunView,
    SupervisorState,
)
from jobs.supervision.policy import Policy
from jobs.supervision.situation import Situation
from resources.processes import ProcessIdentity

NOW = 1_000_000.0
POLICY = Policy()
SPEC = GroupSpec("clickstream", "v1")
FREE = LockView(held=False)
HOST = ProcessIdentity("here", 100, "boot:1")
JVM = ProcessIdentity("here", 101, "boot:2")


def run(run_id: str = "run-1", status: str = "started", **values: object) -> RunView:
    base = RunView(run_id, status, created_at=NOW - 100, started_at=NOW - 95, version="v1")  # type: ignore[arg-type]
    if base.is_finished:
        base = replace(base, ended_at=NOW - 1)
    return replace(base, **values)  # type: ignore[arg-type]


def beat(age: float = 1.0, run_id: str = "run-1", phase: str = "running") -> Heartbeat:
    return Heartbeat(run_id, NOW - age, HOST, phase, 1, JVM)


def look(
    *runs: RunView,
    heartbeat: Heartbeat | None = None,
    alive: bool | None = True,
    lock: LockView = FREE,
    control: Control | None = None,
    state: SupervisorState | None = None,
    spec: GroupSpec = SPEC,
    now: float = NOW,
) -> Decision:
    return decide(
        Situation(now, spec, runs, heartbeat, alive, lock, control or Control(), state or SupervisorState(), POLICY)
    )


def watching(phase: Phase, since: float, run_id: str = "run-1") -> SupervisorState:
    return SupervisorState(phase, since, run_id=run_id)


def failed(number: int, age: float, **values: object) -> RunView:
    return run(f"run-{number}", "failure", created_at=NOW - age - 20, ended_at=NOW - age, **values)
