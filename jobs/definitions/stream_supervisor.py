"""The sensor that keeps stream groups running: reads the world, asks `decide`, does what it says. No Spark here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

import dagster as dg
from dagster._core.instance import InstanceRef
from dagster_shared.serdes import deserialize_value, serialize_value

from jobs.supervision.cursor import format_cursor, parse_cursor
from jobs.supervision.decide import decide
from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.group_lease import is_any_alive
from jobs.supervision.group_lock import are_streams_held_back, read_lock
from jobs.supervision.lease import GroupRecords, HostReport, read_records, write_stop
from jobs.supervision.lease_owner import view_operation
from jobs.supervision.model import (
    Action,
    CancelRun,
    Decision,
    GroupSpec,
    KillProcess,
    Launch,
    LockView,
    ReportRunEnded,
    RunView,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.policy import Policy, build_policy
from jobs.supervision.run_records import build_run_config, build_run_tags, read_runs_by_group, record_stop
from jobs.supervision.situation import Situation
from jobs.supervision.stream_running import STREAM_RUNNING, judge_phase, name_main_assets
from platform_assets.streaming.stream_spec import StreamGroup
from resources.processes import is_alive, kill
from resources.settings import Settings, load_settings

_log = logging.getLogger(__name__)

SUPERVISOR = "stream_supervisor"

# A healthy code server cancels within 0.3 s; a tick that waits for another one would delay the other groups.
_CANCEL_SECONDS = 3.0

_ON_SCHEDULE = "streams catch up on a schedule (HEADRACE_STREAMING_MODE is scheduled)"


def build_stream_supervisor(
    groups: Sequence[StreamGroup],
    streaming_job: dg.JobDefinition,
    settings: Settings | None = None,
    disabled: frozenset[str] = frozenset(),
) -> dg.SensorDefinition:
    """The sensor `stream_supervisor` over these groups, on by default. Groups named in `disabled` are kept down.

    A tick takes tens of milliseconds. It may run twice, be cut off, or lose its cursor: every action is idempotent
    (one run key per predecessor, kills by process identity, records that say which step was taken).
    """
    settings = settings or load_settings()
    policy = build_policy(settings)
    because = _ON_SCHEDULE if settings.runs_on_schedule else ""
    specs = {
        group.name: GroupSpec(
            group.name,
            build_fingerprint(group, settings),
            disabled_because="disabled in code" if group.name in disabled else because,
        )
        for group in groups
    }

    @dg.sensor(
        name=SUPERVISOR,
        job=streaming_job,
        minimum_interval_seconds=settings.supervisor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps each stream group's run alive; its tick says each group's phase, the reason and what to do.",
    )
    def stream_supervisor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if are_streams_held_back(settings.home):
            why = "The platform is starting: the broker and its topic come before the streams."
            return dg.SensorResult(skip_reason=dg.SkipReason(why), cursor=context.cursor)
        states = parse_cursor(context.cursor)
        # A context opens an instance of its own for each tick, which takes longer than all else in it.
        reference = context.instance_ref
        instance = context.instance if reference is None else _open_instance(serialize_value(reference))
        tick = _Tick(instance, settings, policy, context)
        seen = tick.observe([group.name for group in groups])
        for group in groups:
            state = states.get(group.name, SupervisorState())
            states[group.name] = tick.supervise(group, specs[group.name], seen[group.name], state)
        message = "\n".join(tick.lines)
        if tick.run_requests:  # such a tick has no skip reason to say it
            context.log.info(message)
        return dg.SensorResult(
            run_requests=tick.run_requests,
            skip_reason=None if tick.run_requests else dg.SkipReason(message),
            cursor=format_cursor(states),
            asset_events=tick.events,
        )

    return stream_supervisor


@cache
def _open_instance(reference: str) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_ref(deserialize_value(reference, InstanceRef))


def read_states(instance: dg.DagsterInstance) -> dict[str, SupervisorState]:
    """What the supervisor's last tick found, by group; empty before the first."""
    for sensor in instance.all_instigator_state():
        if sensor.name == SUPERVISOR:
            return parse_cursor(getattr(sensor.instigator_data, "cursor", None))
    return {}


@dataclass(frozen=True)
class _Observation:
    """What a tick sees of one group, and when."""

    at: float
    runs: list[RunView]
    records: GroupRecords
    lock: LockView
    process_alive: bool | None

    def as_situation(self, spec: GroupSpec, state: SupervisorState, policy: Policy) -> Situation:
        """The situation of the group, with its spec and what the tick before has seen."""
        report, control = self.records.report, self.records.control
        heartbeat = report.heartbeat if report else None
        return Situation(self.at, spec, self.runs, heartbeat, self.process_alive, self.lock, control, state, policy)


@dataclass
class _Tick:
    """One evaluation: gathers requests, check events and lines over the groups."""

    instance: dg.DagsterInstance
    settings: Settings
    policy: Policy
    context: dg.SensorEvaluationContext
    run_requests: list[dg.RunRequest] = field(default_factory=list)
    events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def observe(self, groups: list[str]) -> dict[str, _Observation]:
        """Looks at all groups, the storage first: each of its answers costs milliseconds, whatever it is about."""
        # Three times the crash loop's length: failures are counted from the runs themselves.
        runs = read_runs_by_group(self.instance, groups, max(25, 3 * self.policy.crash_loop_failures))
        records = read_records(self.instance, groups)
        # The lock is read after the runs: a run that ended in between is found to hold it, never the other way round.
        return {
            group: _Observation(
                time.time(), runs[group], records[group], self._read_lock(group, records[group].report),
                is_alive(report.heartbeat.process) if (report := records[group].report) else None,
            )
            for group in groups
        }  # fmt: skip

    def _read_lock(self, group: str, report: HostReport | None) -> LockView:
        """The lock of this host, or what stands for it: the lease of an operation on another one."""
        lock = read_lock(self.settings.home, group)
        if lock.held or report is None:
            return lock
        return view_operation(report.heartbeat, is_any_alive(report.heartbeat), time.time(), self.policy)

    def supervise(
        self, group: StreamGroup, spec: GroupSpec, seen: _Observation, state: SupervisorState
    ) -> SupervisorState:
        """Decides about one group, acts. Returns the state for the next tick."""
        decision = decide(seen.as_situation(spec, state, self.policy))
        for action in decision.actions:
            self._act(spec, action)
        self.lines.append(f"{spec.name}: {decision.phase.value}: {decision.reason}{_describe_held(seen)}")
        before, after = ((s.phase and judge_phase(s.phase), s.paused_streams) for s in (state, decision.state))
        if before != after:
            self._announce(group, decision)
        return decision.state

    def _act(self, spec: GroupSpec, action: Action) -> None:
        match action:
            case Launch(run_key):
                config, tags = build_run_config(spec.name), build_run_tags(spec.name, spec.version)
                self.run_requests.append(dg.RunRequest(run_key=run_key, run_config=config, tags=tags))
            case WriteStop(record):
                record_stop(self.instance, record)
                write_stop(self.instance, spec.name, record)
            case CancelRun(run_id):
                self._cancel(run_id)
            case KillProcess(process):
                killed = kill(process)
                self.context.log.warning(f"kill -9 of pid {process.pid}: {'done' if killed else 'it was gone'}")
            case ReportRunEnded(run_id, message, cancelled):
                run = self.instance.get_run_by_id(run_id)
                if run is None or run.is_finished:  # its code server has said so since
                    return
                if cancelled:
                    self.instance.report_run_canceled(run, message)
                else:
                    self.instance.report_run_failed(run, message)

    def _cancel(self, run_id: str) -> None:
        """Cancels in a thread of its own: the code server of a hung process answers after 60 s, the tick's own limit.

        What it says then does not matter: the host polls for the run's status, and the ladder's next step is timed.
        """
        if self.instance.is_ephemeral:
            self.instance.run_coordinator.cancel_run(run_id)
            return
        thread = threading.Thread(target=_cancel_run, args=(self.instance.get_ref(), run_id), daemon=True)
        thread.start()
        thread.join(_CANCEL_SECONDS)

    def _announce(self, group: StreamGroup, decision: Decision) -> None:
        for name, key in name_main_assets(group).items():
            is_paused = name in decision.state.paused_streams
            verdict = judge_phase(decision.phase, is_paused=is_paused)
            self.events.append(
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=STREAM_RUNNING,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    metadata={"phase": decision.phase.value, "reason": decision.reason, "group": group.name},
                )
            )


def _describe_held(seen: _Observation) -> str:
    """What a running group's report says of records that nobody can read yet."""
    report = seen.records.report
    if report is None or not seen.process_alive:
        return ""
    for query in report.queries.values():
        if count := query.get("held_records"):
            since = query.get("held_since")
            opened = f" since {datetime.fromisoformat(since):%Y-%m-%d %H:%M:%S} UTC" if since else ""
            return f" {count:,} records wait in Kafka behind a transaction that is open{opened}."
    return ""


def _cancel_run(instance_ref: InstanceRef, run_id: str) -> None:
    with dg.DagsterInstance.from_ref(instance_ref) as instance:
        try:
            instance.run_coordinator.cancel_run(run_id)
        except Exception as error:  # noqa: BLE001
            # A code server that died with its run cannot be asked (it raises all kinds); the ladder's next step can.
            _log.warning("Run %s could not be cancelled: %s", run_id, error)
