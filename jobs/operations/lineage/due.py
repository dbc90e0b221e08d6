"""Which events about Dagster's runs an endpoint has not been told yet.

Nothing waits in a queue: what is due follows from the runs that Dagster has on record and from what was told last,
however long the endpoint was away. A run of which a part was told is told again as a whole; events have the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import dagster as dg

from jobs.operations.lineage.events import State

# How often an endpoint hears that a streaming run lives, and which versions it has written.
RUNNING_SECONDS = 300.0
# A run's end is written with the time before its transaction: a later one may be seen first.
_OVERLAP_SECONDS = 60.0
# An hour's backlog must not use up one tick; the rest is told by the next ones.
_RUNS_OF_ONE_LOOK = 50

_AT_WORK = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_ENDED: Mapping[dg.DagsterRunStatus, State] = {
    dg.DagsterRunStatus.SUCCESS: "COMPLETE",
    dg.DagsterRunStatus.FAILURE: "FAIL",
    dg.DagsterRunStatus.CANCELED: "ABORT",
}


@dataclass
class Told:
    """What was told: all runs that ended up to `since`, the newest of them by name; runs at work, and when last.

    Times are seconds since 1970. `is_away`: the endpoint did not take the last event.
    """

    since: float
    ended: dict[str, float] = field(default_factory=dict)
    at_work: dict[str, float] = field(default_factory=dict)
    is_away: bool = False

    @staticmethod
    def parse(cursor: str | None, now: float) -> Told:
        """Reads a sensor's cursor. Without one that can be read, what was before `now` is not told."""
        try:
            return Told(**json.loads(cursor or ""))
        except (ValueError, TypeError):
            return Told(now)

    def format(self) -> str:
        """Gives the cursor."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class DueRun:
    """A run, the events that are due about it, in order, each with its time; and what to note when they are told."""

    record: dg.RunRecord
    events: tuple[tuple[State, float], ...]

    @property
    def run(self) -> dg.DagsterRun:
        """The run itself."""
        return self.record.dagster_run

    def note(self, told: Told, now: float) -> None:
        """Notes that all was told."""
        if self.run.status not in _ENDED:
            told.at_work[self.run.run_id] = now
            return
        told.at_work.pop(self.run.run_id, None)
        updated_at = self.record.update_timestamp.timestamp()
        told.ended[self.run.run_id] = updated_at
        told.since = max(told.since, updated_at)
        told.ended = {run: at for run, at in told.ended.items() if at > told.since - 2 * _OVERLAP_SECONDS}


def list_due(instance: dg.DagsterInstance, told: Told, streaming_job: str, now: float) -> Iterator[DueRun]:
    """The runs of which something is due: those that have ended first, oldest first. At most some of a long backlog.

    `streaming_job` is the name of the job whose runs go on for ever. Raises what the instance's storage raises.
    """
    after = datetime.fromtimestamp(told.since - _OVERLAP_SECONDS, UTC)
    ended = dg.RunsFilter(statuses=list(_ENDED), updated_after=after)
    limit = _RUNS_OF_ONE_LOOK + len(told.ended)
    for record in instance.get_run_records(ended, limit, order_by="update_timestamp", ascending=True):
        run = record.dagster_run
        if run.run_id in told.ended:
            continue
        end = record.end_time or record.update_timestamp.timestamp()
        events: list[tuple[State, float]] = [(_ENDED[run.status], end)]
        if run.run_id not in told.at_work:
            events.insert(0, ("START", record.start_time or end))
        yield DueRun(record, tuple(events))
    for record in instance.get_run_records(dg.RunsFilter(statuses=_AT_WORK), _RUNS_OF_ONE_LOOK):
        run = record.dagster_run
        last = told.at_work.get(run.run_id)
        if last is None:
            yield DueRun(record, (("START", record.start_time or now),))
        elif run.job_name == streaming_job and now - last >= RUNNING_SECONDS:
            yield DueRun(record, (("RUNNING", now),))
