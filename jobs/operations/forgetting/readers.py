"""Waits for batch runs that may still read replaced files, and stops those that take too long."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg

from jobs.supervision.terminal import WriteLine
from platform_assets.errors import GroupOwnedError

_POLL_SECONDS = 1.0
# From being cancelled to being over: Dagster asks the run's process, which stops its Spark application.
_STOP_SECONDS = 120.0
_AT_WORK = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def wait_for_readers(instance: dg.DagsterInstance, wait_seconds: float, write: WriteLine) -> None:
    """Returns when no run is at work that was so at the call: those that start later read what is there now.

    After `wait_seconds` they are cancelled. Raises `GroupOwnedError` for one that does not end then either. No stream
    group may run: its run would be one of them.
    """
    readers = [record.dagster_run.run_id for record in instance.get_run_records(dg.RunsFilter(statuses=_AT_WORK))]
    if readers:
        write(f"waiting at most {wait_seconds:.0f} s for {len(readers)} run(s) that may read the old files")
    left = _wait(instance, readers, wait_seconds)
    for run_id in left:
        write(f"run {run_id[:8]} is stopped: it reads files that must go")
        instance.run_coordinator.cancel_run(run_id)
    if left := _wait(instance, left, _STOP_SECONDS):
        raise GroupOwnedError(
            f"Run {left[0]} may still read the user's files and does not end. End it in the UI, then call this again."
        )


def _wait(instance: dg.DagsterInstance, run_ids: Sequence[str], seconds: float) -> list[str]:
    """The runs that are still at work after this time."""
    deadline = time.monotonic() + seconds
    while True:
        at_work = instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids), statuses=_AT_WORK)) if run_ids else []
        if not at_work or time.monotonic() > deadline:
            return [record.dagster_run.run_id for record in at_work]
        time.sleep(_POLL_SECONDS)
