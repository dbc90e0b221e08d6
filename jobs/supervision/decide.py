"""The supervisor's one decision: what to do about a group now. Pure; the sensor does the I/O around it.

Truth is the heartbeat and the lock, not the run's status: a run can read STARTED for ever after a reboot, and
CANCELED while its process still writes. Holds and back-off are read from the runs themselves (how they ended, what
they committed), so that a lost cursor forgets nothing that matters.

Promises, tested on random histories: never a launch while a run of the group is unfinished or its lock is held; a
held group stays held until a person resumes it (or, after a terminal error, until code or settings change); only a
process proved to be the one meant is killed; without further disturbance an enabled group ends RUNNING or held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from jobs.supervision.model import (
    Action,
    CancelRun,
    Control,
    Decision,
    ExitKind,
    GroupSpec,
    Heartbeat,
    KillProcess,
    Launch,
    LockView,
    Phase,
    ReportRunEnded,
    RunView,
    StopCause,
    StopRecord,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.policy import Policy
from jobs.supervision.run_ends import (
    RunEnd,
    end_time,
    failures_in_a_row,
    is_crash_loop,
    list_hosted,
    read_end,
    stops_as_stuck,
)


def decide(
    now: float,
    spec: GroupSpec,
    runs: Sequence[RunView],
    heartbeat: Heartbeat | None,
    process_alive: bool | None,
    lock: LockView,
    control: Control,
    state: SupervisorState,
    policy: Policy,
) -> Decision:
    """Compares the desired state of `spec` with reality and returns what to do, in order.

    `runs` are the group's newest runs, newest first (at least three times `crash_loop_failures` of them where they
    exist). `process_alive` is about `heartbeat.process`; None means it cannot be known (another host).
    """
    live = [run for run in runs if not run.is_finished]
    host = _host_among(live, heartbeat) if live else None
    run_id = host.run_id if host is not None else lock.owner_run_id
    if state.run_id != run_id:  # what was watched was another run
        state = SupervisorState()
    if host is not None:
        stops = 0 if host.committed else stops_as_stuck(spec, runs, control)
        patient = replace(policy, stuck_timeout=policy.stuck_limit(stops))
        actions, phase, reason = _judge_live(now, spec, host, heartbeat, process_alive, control, state, patient)
    elif lock.held:
        actions, phase, reason = _judge_orphan(now, spec, runs, heartbeat, process_alive, lock, control, state, policy)
    else:
        actions, phase, reason = _judge_idle(now, spec, runs, control, policy)
    # A time to come is one of before the clock was set back: what is watched for is watched anew.
    since = state.phase_since if phase == state.phase and state.phase_since <= now else now
    paused_streams = tuple(sorted(control.paused_streams))
    return Decision(tuple(actions), SupervisorState(phase, since, paused_streams, reason, run_id), phase, reason)


def _host_among(live: Sequence[RunView], heartbeat: Heartbeat | None) -> RunView:
    """Of several unfinished runs the one that beats, else one that runs, else the oldest: first in the queue."""
    for run in live:
        if heartbeat is not None and run.run_id == heartbeat.run_id:
            return run
    started = [run for run in live if run.status in ("started", "canceling")]
    return (started or list(live))[-1]


_Verdict = tuple[list[Action], Phase, str]


def _judge_live(
    now: float,
    spec: GroupSpec,
    run: RunView,
    heartbeat: Heartbeat | None,
    process_alive: bool | None,
    control: Control,
    state: SupervisorState,
    policy: Policy,
) -> _Verdict:
    beat = heartbeat if heartbeat is not None and heartbeat.run_id == run.run_id else None
    short = run.run_id[:8]
    if run.status == "queued":
        undesired = _undesired(spec, control)
        if undesired is None:
            return [], Phase.QUEUED, f"run {short} waits in the run queue"
        record = StopRecord(run.run_id, undesired[0], undesired[1], now, cancelled_at=now)
        return [WriteStop(record), CancelRun(run.run_id)], Phase.STOPPING, f"queued run {short}: {undesired[1]}"
    if run.status == "starting" and beat is None:
        return [], Phase.STARTING, f"run {short} is being launched"
    if beat is not None and process_alive is False:
        message = f"The process of this run (pid {beat.process.pid} on {beat.process.host}) is gone without a word."
        wished = run.status == "canceling"
        return [ReportRunEnded(run.run_id, message, wished)], Phase.FAILING, f"run {short}: its process is gone"
    stop = control.stop
    if stop is not None and stop.run_id == run.run_id:
        return _climb(now, run, beat, process_alive, stop, policy)
    if run.status == "canceling":
        return _judge_terminated(now, run, beat, process_alive, state, policy)

    if beat is None:
        silent = now - (run.started_at or run.created_at)
        if silent <= policy.start_timeout:
            return [], Phase.STARTING, f"run {short} has not reported yet ({silent:.0f} s)"
        return _ask(now, run, StopCause.HUNG, f"no heartbeat within {policy.start_timeout:.0f} s of its start")
    silent = now - beat.at
    limit = policy.heartbeat_timeout
    if beat.phase == "starting":
        limit = policy.start_timeout
    elif beat.phase == "stopping":
        limit = policy.stop_grace + policy.heartbeat_timeout
    # Far in the future: the clock was set back, and a host that lives beats again at once.
    if abs(silent) > limit:
        # A laptop that slept, or a daemon that was down, finds an old heartbeat of a healthy host: suspicion must
        # last for a time that this supervisor itself has watched.
        watched = now - state.phase_since if state.phase == Phase.SUSPECT else 0.0
        if watched < policy.heartbeat_timeout:
            return [], Phase.SUSPECT, f"run {short}: no heartbeat for {silent:.0f} s (limit {limit:.0f} s)"
        return _ask(now, run, StopCause.HUNG, f"no heartbeat for {silent:.0f} s")

    undesired = _undesired(spec, control)
    if undesired is not None:
        return _ask(now, run, *undesired)
    if run.run_id in control.restart_runs:
        return _ask(now, run, StopCause.RESTART, "a restart was asked for")
    changed = f"code or settings changed ({run.version or 'none'} -> {spec.version})"
    # Two daemons with different code would replace each other's runs for ever: each gets as far as a commit.
    is_due = run.committed or abs(now - (run.started_at or run.created_at)) > policy.start_timeout
    if run.version != spec.version and is_due:
        return _ask(now, run, StopCause.UPGRADE, changed)
    if now - (run.started_at or run.created_at) > policy.recycle_after:
        return _ask(now, run, StopCause.RECYCLE, f"planned restart after {policy.recycle_after / 3600:.0f} h")
    if beat.phase == "starting":
        return [], Phase.STARTING, f"run {short} starts Spark"
    if beat.phase == "stopping":
        return [], Phase.STOPPING, f"run {short} finishes its batches in flight"
    stalled = f"{beat.stalled_query} is busy with one batch for {beat.stalled_seconds:.0f} s"
    if beat.stalled_seconds > policy.stuck_timeout:
        return _ask(now, run, StopCause.STUCK, f"{stalled} (limit {policy.stuck_timeout:.0f} s)")
    note = f"; {stalled}" if beat.stalled_seconds > policy.heartbeat_timeout else ""
    if run.version != spec.version:
        note += f"; {changed}: it is replaced once it has committed"
    for name, why in sorted(control.paused_streams.items()):
        note += f"; {name} is paused by {why}, go on with: headrace resume {spec.name} --stream {name}"
    return [], Phase.RUNNING, f"run {short}, heartbeat {max(0.0, silent):.0f} s ago{note}"


def _judge_terminated(
    now: float,
    run: RunView,
    beat: Heartbeat | None,
    process_alive: bool | None,
    state: SupervisorState,
    policy: Policy,
) -> _Verdict:
    """A person pressed Terminate: the host has the stop ladder's patience, watched by this supervisor, then no more."""
    short, patience = run.run_id[:8], policy.stop_grace + policy.stop_slack
    watched = now - state.phase_since if state.phase == Phase.STOPPING else 0.0
    if watched <= patience:
        return [], Phase.STOPPING, f"run {short} is being terminated and finishes its batches in flight"
    kill: list[Action] = [KillProcess(beat.process)] if beat is not None and process_alive else []
    ended = ReportRunEnded(run.run_id, f"Stopped by force: it ignored Terminate for {watched:.0f} s.", cancelled=True)
    return [*kill, ended], Phase.FAILING, f"run {short} ignored Terminate and is killed"


def _undesired(spec: GroupSpec, control: Control) -> tuple[StopCause, str] | None:
    """Why the group should not run at all, or None."""
    if spec.disabled_because:
        return StopCause.DISABLED, spec.disabled_because
    if control.paused:
        return StopCause.PAUSE, _paused_text(control)
    return None


def _paused_text(control: Control) -> str:
    because = f" ({control.pause_reason})" if control.pause_reason else ""
    return f"paused by {control.paused_by or 'a person'}{because}"


def _ask(now: float, run: RunView, cause: StopCause, why: str) -> _Verdict:
    record = StopRecord(run.run_id, cause, why, now)
    return [WriteStop(record)], Phase.STOPPING, f"run {run.run_id[:8]} is asked to stop: {why}"


def _climb(
    now: float,
    run: RunView,
    beat: Heartbeat | None,
    process_alive: bool | None,
    stop: StopRecord,
    policy: Policy,
) -> _Verdict:
    """The stop ladder: record (the host polls it) -> cancel the run -> kill that process and mark the run failed."""
    short, patience = run.run_id[:8], policy.stop_grace + policy.stop_slack
    asked_at = stop.at if stop.cancelled_at is None else stop.cancelled_at
    if asked_at - now > policy.heartbeat_timeout:  # the clock was set back: how long it was is not known any more
        anew = replace(stop, at=now) if stop.cancelled_at is None else replace(stop, cancelled_at=now)
        return [WriteStop(anew)], Phase.STOPPING, f"run {short} has its time to stop anew, the clock was set back"
    if stop.cancelled_at is None:
        if now - stop.at <= patience:
            return [], Phase.STOPPING, f"run {short} stops: {stop.why}"
        record = replace(stop, cancelled_at=now)
        return [WriteStop(record), CancelRun(run.run_id)], Phase.STOPPING, f"run {short} is cancelled: {stop.why}"
    if now - stop.cancelled_at <= patience:
        return [], Phase.STOPPING, f"run {short} was cancelled {now - stop.cancelled_at:.0f} s ago: {stop.why}"
    actions: list[Action] = [WriteStop(replace(stop, killed_at=now))]
    if beat is not None and process_alive:
        actions.append(KillProcess(beat.process))
    message = f"Stopped by force after it ignored a stop record and a cancellation: {stop.why}."
    return [*actions, ReportRunEnded(run.run_id, message)], Phase.FAILING, f"run {short} is killed: {stop.why}"


def _judge_orphan(
    now: float,
    spec: GroupSpec,
    runs: Sequence[RunView],
    heartbeat: Heartbeat | None,
    process_alive: bool | None,
    lock: LockView,
    control: Control,
    state: SupervisorState,
    policy: Policy,
) -> _Verdict:
    """The lock is held though no run lives: a drain, or what is left of a run. Never launch; kill only our remains."""
    held = f"the lock is held by {lock.text or 'an unknown process'}"
    if lock.owner_mode != "run":
        if control.paused:
            return [], Phase.HELD_OPERATOR, f"{_paused_text(control)}; {held}"
        return [], Phase.ORPHAN, f"{held}; nothing is launched until it ends"
    owner_run = next((run for run in runs if run.run_id == lock.owner_run_id), None)
    if owner_run is None or owner_run.ended_at is None:
        return [], Phase.ORPHAN, f"{held}, whose run is not known here; stop that process"
    ended_at = owner_run.ended_at
    if state.phase is Phase.ORPHAN:  # watched by this supervisor, whatever the clock said when the run ended
        ended_at = min(ended_at, state.phase_since)
    # A batch is written by the host: without it the JVM has nothing left to finish.
    patience = policy.jvm_grace if lock.owner_alive is False else policy.stop_grace + policy.stop_slack
    left = ended_at + patience - now
    if left > 0:
        return [], Phase.ORPHAN, f"{held}, whose run has ended; it is killed in {left:.0f} s"
    if lock.owner is not None and lock.owner_alive:
        return [KillProcess(lock.owner)], Phase.ORPHAN, f"{held}, whose run has ended; it is killed"
    jvm = heartbeat.jvm if heartbeat is not None and heartbeat.run_id == owner_run.run_id else None
    if jvm is not None and lock.owner_alive is False:
        return [KillProcess(jvm)], Phase.ORPHAN, f"{held}, of which only Spark's JVM lives; it is killed"
    return [], Phase.ORPHAN, f"{held}, whose run has ended; stop that process by hand"


def _judge_idle(now: float, spec: GroupSpec, runs: Sequence[RunView], control: Control, policy: Policy) -> _Verdict:
    if spec.disabled_because:
        return [], Phase.DISABLED, spec.disabled_because
    resume = f"headrace resume {spec.name}"
    if control.paused:
        return [], Phase.HELD_OPERATOR, f"{_paused_text(control)}; go on with: {resume}"
    judged = list_hosted(runs)
    if not judged:
        return _launch(spec, runs, "the lock is free again" if runs else "first run")
    last = judged[0]
    ended_at, end = end_time(last), read_end(last)
    if last.run_id in control.forgiven_runs:
        return _launch(spec, runs, "resumed")
    if end is RunEnd.OPERATOR:
        return [], Phase.HELD_OPERATOR, f"run {last.run_id[:8]} was terminated by a person; go on with: {resume}"
    changed = last.version != spec.version
    if end is RunEnd.TERMINAL and not changed:
        why = last.exit_reason or "a terminal error"
        return [], Phase.NEEDS_ATTENTION, f"{why} When mended: {resume}"
    if end is RunEnd.CLEAN or changed:
        return _launch(spec, runs, "code or settings changed" if changed else "the last run ended cleanly")

    failures = failures_in_a_row(spec, judged, control)
    if is_crash_loop(failures, policy):
        # A service that was away is back without anybody saying so, and a run that misses it starts no Spark.
        is_away = last.exit_kind is ExitKind.UNAVAILABLE
        probe_at = ended_at + (policy.backoff_cap if is_away else policy.probe_interval)
        if now >= probe_at or now < ended_at - policy.backoff_cap:
            return _launch(spec, runs, f"probe after {len(failures)} failures")
        why = f"{len(failures)} failures in a row ({last.exit_reason or 'the process died'})"
        return [], Phase.HELD_CRASH_LOOP, f"{why}; probe at {_clock(probe_at)}, or at once with: {resume}"
    next_at = ended_at + policy.delay(len(failures), last.run_id)
    # A clock set back must not postpone a restart beyond the delay itself.
    if now >= next_at or now < ended_at - policy.backoff_cap:
        return _launch(spec, runs, f"restart after failure {len(failures)}")
    why = last.exit_reason or "the process died"
    return [], Phase.BACKOFF, f"failure {len(failures)} ({why}); restart at {_clock(next_at)}"


def _launch(spec: GroupSpec, runs: Sequence[RunView], why: str) -> _Verdict:
    run_key = f"{spec.name}:after:{runs[0].run_id if runs else 'none'}"
    return [Launch(run_key)], Phase.LAUNCHING, why


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")
