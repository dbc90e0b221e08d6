"""The world around a supervised host: heartbeats, stop records, the run's own status, commits, asset events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from jobs.supervision.group_lease import GroupLease, claim_lease, identify_myself
from jobs.supervision.host import HostPhase, StreamRequests
from jobs.supervision.lease import HostReport, read_control, read_stop
from jobs.supervision.model import ExitKind, Heartbeat
from jobs.supervision.policy import Policy
from jobs.supervision.run_records import record_commit, record_exit
from jobs.supervision.stall import Stall, StallWatch
from jobs.supervision.table_events import TableEvents
from jobs.supervision.usage import UsageWatch
from platform_assets.errors import GroupOwnedError
from resources.processes import ProcessIdentity

if TYPE_CHECKING:
    from platform_assets.streaming.progress import QueryProgress

_log = logging.getLogger(__name__)
# SQLAlchemy repeats the statement and its parameters behind the cause.
_SHOWN_CHARS = 200


class RunHostPort:
    """The `HostPort` of one Dagster run. Create it after the group's lock was taken: that claims the lease.

    Raises `GroupOwnedError` while an operation owns the group, on whatever host. A host that finds that it was replaced
    by one on another machine, where the lock file does not reach, stops.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        group: str,
        run_id: str,
        events: TableEvents,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
        policy: Policy | None = None,
    ) -> None:
        self._me = identify_myself()
        self._instance = instance
        self._group = group
        self._run_id = run_id
        self._events = events
        self._log = log
        self._clock = clock
        self._lease = GroupLease(instance, group, run_id)
        claim_lease(self._lease, self._build_first, instance, policy or Policy(), replaces_runs=True)
        self._stalls = StallWatch()
        self._usage = UsageWatch()
        self._requests = StreamRequests()
        self._first_batches: dict[str, int] = {}
        self._has_committed = False
        self._is_superseded = False
        self._is_storage_away = False

    def report(self, phase: HostPhase, progress: Mapping[str, QueryProgress], jvm: ProcessIdentity | None) -> None:
        """Beats, marks the first commit, logs asset events that are due.

        Trouble of the instance's storage (a database that restarts, a lock) must not stop streams that write well: it
        is logged, and if it lasts the supervisor grows suspicious by the heartbeat's age.
        """
        try:
            stall = self._stalls.look(progress, time.monotonic()) or Stall("", 0.0)
            epoch, seconds = self._lease.epoch, round(stall.seconds, 1)
            beat = Heartbeat(self._run_id, self._clock(), self._me, phase, epoch, jvm, stall.query, seconds)
            queries = {name: asdict(query) for name, query in progress.items()}
            processes = self._usage.look(self._me, jvm, time.monotonic())
            if not self._lease.beat(HostReport(beat, queries, processes)):
                self._is_superseded = True
                return
            self._mark_commit(progress)
            self._events.publish(progress, time.monotonic())
            self._say_storage_is_back()
        except Exception as error:  # noqa: BLE001
            self._say_storage_is_away("The heartbeat could not be written", error)

    def check_lease(self) -> None:
        """Raises `GroupOwnedError` when another host has taken over the group. From any thread, before each commit.

        What happens between this look and the commit is the table's transaction's to refuse.
        """
        try:
            is_replaced = self._lease.is_replaced()
        except Exception:  # noqa: BLE001
            return  # the beat reads the same record, and says so
        if is_replaced:
            raise GroupOwnedError(
                f"Another host has taken over the stream group {self._group}; this one writes no more."
            )

    def read_stop(self, *, signalled: bool) -> tuple[ExitKind, str] | None:
        """Reads stop records, a takeover by another host, Terminate (even if its signal got lost), and signals."""
        found = self._find_stop(signalled)
        if found is not None:
            try:
                record_exit(self._instance, self._run_id, *found)
            except Exception as error:  # noqa: BLE001
                self._say_storage_is_away("The run's exit could not be recorded", error)
        return found

    def read_requests(self) -> StreamRequests:
        """Reads the control record; returns what was read last while the storage is away."""
        try:
            control = read_control(self._instance, self._group)
        except Exception as error:  # noqa: BLE001
            self._say_storage_is_away("The control record could not be read", error)
        else:
            self._requests = StreamRequests(frozenset(control.paused_streams), control.streams_restart_at)
        return self._requests

    def _build_first(self, epoch: int) -> HostReport:
        return HostReport(Heartbeat(self._run_id, self._clock(), self._me, "starting", epoch))

    def _find_stop(self, signalled: bool) -> tuple[ExitKind, str] | None:
        if self._is_superseded:
            return ExitKind.OWNED, "another host has taken over the group"
        try:
            run = self._instance.get_run_by_id(self._run_id)
            if run is None:  # nobody could stop it, and nothing would be launched next to it
                return ExitKind.STOPPED, "the run was deleted in Dagster"
            if run.status == dg.DagsterRunStatus.CANCELING:
                return ExitKind.TERMINATED, "terminated"
            if run.is_finished:
                return ExitKind.STOPPED, f"the run was ended from outside ({run.status.value})"
            stop = read_stop(self._instance, self._group)
        except Exception as error:  # noqa: BLE001
            self._say_storage_is_away("The stop record could not be read", error)
            stop = None
        if stop is not None and stop.run_id == self._run_id:
            return ExitKind.STOPPED, stop.why
        return (ExitKind.INTERRUPTED, "interrupted by a signal") if signalled else None

    def _say_storage_is_away(self, what: str, error: BaseException) -> None:
        """One line until it is back, in this process's log: the run's own log is in the storage, and would raise."""
        if not self._is_storage_away:
            self._is_storage_away = True
            error = error.__cause__ or error  # Postgres's storage says only how often it has tried
            _log.warning(
                "%s (%s). The storage of Dagster's instance does not answer; streams go on, and nobody watches them "
                "until it does.", what, " ".join(str(error).split())[:_SHOWN_CHARS],
                exc_info=not isinstance(error, SQLAlchemyError),  # of a bug of ours the stack is the only clue
            )  # fmt: skip

    def _say_storage_is_back(self) -> None:
        if self._is_storage_away:
            self._is_storage_away = False
            self._log.info("The storage of Dagster's instance answers again.")

    def _mark_commit(self, progress: Mapping[str, QueryProgress]) -> None:
        """Marks the run once it has moved and no query is behind one batch that might be the one it always dies of."""
        if self._has_committed:
            return
        moved = healthy = False
        for name, query in progress.items():
            first = self._first_batches.setdefault(name, query.batch_id)
            advanced = query.batch_id > first
            moved = moved or advanced
            healthy = advanced or (not query.busy and not query.lag_records)
            if not healthy:
                return
        if moved and healthy:
            record_commit(self._instance, self._run_id)
            self._has_committed = True
