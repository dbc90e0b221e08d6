"""How the runs of a group ended, and what that means for the next one. Pure, like `decide`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from jobs.supervision.model import Control, ExitKind, GroupSpec, RunView, StopCause, StopStep
from jobs.supervision.policy import Policy


class RunEnd(Enum):
    """What a finished run means for its successor."""

    CLEAN = "clean"
    OPERATOR = "operator"
    TERMINAL = "terminal"
    FAILURE = "failure"


def end_time(run: RunView) -> float:
    """When the run ended, as far as that is known."""
    return run.ended_at if run.ended_at is not None else run.created_at


def read_end(run: RunView) -> RunEnd:
    """How a finished run is to be read. Silence is a crash."""
    if run.stop_cause in (StopCause.HUNG, StopCause.STUCK):
        return RunEnd.FAILURE
    by_us = run.stop_step in (StopStep.CANCELLED, StopStep.KILLED)
    if by_us:
        return RunEnd.CLEAN
    if run.status == "canceled" or run.exit_kind is ExitKind.TERMINATED:
        return RunEnd.OPERATOR
    if run.exit_kind is ExitKind.TERMINAL:
        return RunEnd.TERMINAL
    if run.exit_kind in (ExitKind.STOPPED, ExitKind.INTERRUPTED, ExitKind.OWNED):
        return RunEnd.CLEAN
    return RunEnd.FAILURE


def failures_in_a_row(spec: GroupSpec, runs: Sequence[RunView], control: Control) -> list[RunView]:
    """Failed runs, newest first, back to the last commit, resume, change of version or person's decision.

    A failed run that committed counts itself (it did fail) and forgives all before it. Clean ends between are skipped:
    a Ctrl-C does not fix a crash loop.
    """
    failures: list[RunView] = []
    for run in runs:
        end = read_end(run)
        if run.version != spec.version or run.run_id in control.forgiven_runs:
            break
        if end is RunEnd.FAILURE:
            failures.append(run)
        elif end is not RunEnd.CLEAN:
            break
        if run.committed:
            break
    return failures


def stops_as_stuck(spec: GroupSpec, runs: Sequence[RunView], control: Control) -> int:
    """How many of the failed runs in a row before one that lives, and has not committed, were stopped as stuck."""
    ended = [run for run in list_hosted(runs) if run.is_finished]
    return sum(run.stop_cause is StopCause.STUCK for run in failures_in_a_row(spec, ended, control))


def is_crash_loop(failures: Sequence[RunView], policy: Policy) -> bool:
    """Whether some N failures fell within the window. Twice N in a row without one commit is a loop at any pace."""
    n = policy.crash_loop_failures
    ends = [end_time(run) for run in failures]
    dense = any(ends[i] - ends[i + n - 1] <= policy.crash_loop_window for i in range(len(ends) - n + 1))
    return dense or len(ends) >= 2 * n


def list_hosted(runs: Sequence[RunView]) -> list[RunView]:
    """The runs that hosted the group or were to, one at a time, so that the newest says how things stand.

    A run that found the lock taken did nothing, nor did one that a person launched and took back from the queue. Times
    are no measure of who was last, for a clock can be set back.
    """
    return [run for run in runs if run.exit_kind is not ExitKind.OWNED and not (run.by_hand and run.started_at is None)]
