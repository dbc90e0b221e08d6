"""Dagster's runs as the supervisor's values, and the tags through which hosts and supervisor speak about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import dagster as dg

from jobs.supervision.model import FINISHED, ExitKind, RunStatus, RunView, StopCause, StopRecord, StopStep

GROUP_TAG = "headrace/group"
VERSION_TAG = "headrace/version"
EXIT_TAG = "headrace/exit"
EXIT_REASON_TAG = "headrace/exit_reason"
COMMITTED_TAG = "headrace/committed"
STOP_CAUSE_TAG = "headrace/stop_cause"
STOP_STEP_TAG = "headrace/stop_step"
_RUN_KEY_TAG = "dagster/run_key"

_STATUS: Mapping[dg.DagsterRunStatus, RunStatus] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.NOT_STARTED: "queued",
    dg.DagsterRunStatus.MANAGED: "queued",
    dg.DagsterRunStatus.STARTING: "starting",
    dg.DagsterRunStatus.STARTED: "started",
    dg.DagsterRunStatus.CANCELING: "canceling",
    dg.DagsterRunStatus.SUCCESS: "success",
    dg.DagsterRunStatus.FAILURE: "failure",
    dg.DagsterRunStatus.CANCELED: "canceled",
}

_Word = TypeVar("_Word", bound=Enum)

UNFINISHED = [status for status, name in _STATUS.items() if name not in FINISHED]
"""Dagster's words for a run that may still do something."""


def read_runs(instance: dg.DagsterInstance, group: str, limit: int) -> list[RunView]:
    """One group's runs, as `read_runs_by_group`."""
    return read_runs_by_group(instance, [group], limit)[group]


def read_runs_by_group(instance: dg.DagsterInstance, groups: Sequence[str], limit: int) -> dict[str, list[RunView]]:
    """Each group's newest runs and all that are unfinished, newest first.

    The second part matters: a run that has lived for weeks must not be forgotten behind newer ones that were refused.
    """
    newest = {
        group: [_view(record) for record in instance.get_run_records(dg.RunsFilter(tags={GROUP_TAG: group}), limit)]
        for group in groups
    }
    # Read after the newest: a run that ended in between is in the first list, as unfinished, and judged next time.
    # One query for all groups: each costs a tick milliseconds.
    older = instance.get_run_records(dg.RunsFilter(tags={GROUP_TAG: list(groups)}, statuses=UNFINISHED))
    for record in older:
        runs = newest[record.dagster_run.tags[GROUP_TAG]]
        if all(run.run_id != record.dagster_run.run_id for run in runs):
            runs.append(_view(record))
    return newest


def read_run(instance: dg.DagsterInstance, run_id: str) -> RunView | None:
    """The run of this id; None where Dagster has none (any more)."""
    records = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), 1)
    return _view(records[0]) if records else None


def _view(record: dg.RunRecord) -> RunView:
    run = record.dagster_run
    tags = run.tags
    return RunView(
        run_id=run.run_id,
        status=_STATUS[run.status],
        created_at=record.create_timestamp.timestamp(),
        started_at=record.start_time,
        ended_at=record.end_time,
        version=tags.get(VERSION_TAG, ""),
        exit_kind=_read_word(ExitKind, tags.get(EXIT_TAG)),
        exit_reason=tags.get(EXIT_REASON_TAG, ""),
        committed=COMMITTED_TAG in tags,
        by_hand=_RUN_KEY_TAG not in tags,
        stop_cause=_read_word(StopCause, tags.get(STOP_CAUSE_TAG)),
        stop_step=_read_word(StopStep, tags.get(STOP_STEP_TAG)),
    )


def _read_word(kind: type[_Word], tag: str | None) -> _Word | None:
    """A tag's word; None when there is none, or one that a person or another version has put there."""
    return next((word for word in kind if word.value == tag), None)


def build_run_tags(group: str, version: str) -> dict[str, str]:
    """Tags of a streaming run. Dagster's own limits and retries are off: they would double the supervisor's work."""
    return {GROUP_TAG: group, VERSION_TAG: version, "dagster/max_runtime": "0", "dagster/max_retries": "0"}


def build_run_config(group: str) -> dict[str, Any]:
    """Run config of `streaming_job` for one group."""
    return {"ops": {"host_streams": {"config": {"group": group}}}}


def record_exit(instance: dg.DagsterInstance, run_id: str, kind: ExitKind, reason: str) -> None:
    """Says how a host leaves. Written before the host closes anything: a kill after it is then not read as a crash."""
    # A tag is an index entry, not a log: the log has the whole message.
    instance.add_run_tags(run_id, {EXIT_TAG: kind.value, EXIT_REASON_TAG: reason[:400]})


def record_commit(instance: dg.DagsterInstance, run_id: str) -> None:
    """Marks the run's first committed batch, which forgives earlier failures."""
    instance.add_run_tags(run_id, {COMMITTED_TAG: "true"})


def record_stop(instance: dg.DagsterInstance, record: StopRecord) -> None:
    """Marks a run as stopped by us, so that its end is not taken for a person's decision or a crash."""
    instance.add_run_tags(record.run_id, {STOP_CAUSE_TAG: record.cause.value, STOP_STEP_TAG: record.step.value})
