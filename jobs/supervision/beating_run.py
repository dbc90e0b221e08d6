"""What to do about a run that has reported at least once: rules, of which the first that applies counts.

Pure, a part of `decide`.
"""

from __future__ import annotations

from collections.abc import Callable

from jobs.supervision.model import Heartbeat, Phase, StopCause
from jobs.supervision.requests import find_reason_to_stop
from jobs.supervision.situation import LiveRun, Verdict


def judge_beating(live: LiveRun, beat: Heartbeat) -> Verdict:
    """`beat` is the run's newest; nobody has asked the run to stop."""
    verdicts = (rule(live, beat) for rule in _RULES)
    return next((verdict for verdict in verdicts if verdict is not None), None) or _run_on(live, beat)


def _suspect_silent(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    policy, silent = live.seen.policy, live.seen.now - beat.at
    limit = policy.silence_limit(beat.phase)
    # Far in the future: the clock was set back, and a host that lives beats again at once.
    if abs(silent) <= limit:
        return None
    # A laptop that slept, or a daemon that was down, finds an old heartbeat of a healthy host: suspicion must last for
    # a time that this supervisor itself has watched.
    if live.seen.watched_for(Phase.SUSPECT) < policy.heartbeat_timeout:
        return [], Phase.SUSPECT, f"{live.short}: no heartbeat for {silent:.0f} s (limit {limit:.0f} s)"
    return live.ask_to_stop(StopCause.HUNG, f"no heartbeat for {silent:.0f} s")


def _stop_undesired(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    undesired = find_reason_to_stop(live.seen.spec, live.seen.control)
    return None if undesired is None else live.ask_to_stop(*undesired)


def _restart_requested(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    if live.run.run_id not in live.seen.control.restart_runs:
        return None
    return live.ask_to_stop(StopCause.RESTART, "a restart was asked for")


def _replace_changed(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    # Two daemons with different code would replace each other's runs for ever: each gets as far as a commit.
    is_due = live.run.committed or abs(live.age) > live.seen.policy.start_timeout
    if live.run.version == live.seen.spec.version or not is_due:
        return None
    return live.ask_to_stop(StopCause.UPGRADE, _describe_change(live))


def _recycle_old(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    limit = live.seen.policy.recycle_after
    if live.age <= limit:
        return None
    return live.ask_to_stop(StopCause.RECYCLE, f"planned restart after {limit / 3600:.0f} h")


def _wait_for_phase(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    if beat.phase == "starting":
        return [], Phase.STARTING, f"{live.short} is starting"
    if beat.phase == "stopping":
        return [], Phase.STOPPING, f"{live.short} finishes its batches in flight"
    return None


def _stop_stuck(live: LiveRun, beat: Heartbeat) -> Verdict | None:
    limit = live.seen.policy.stuck_timeout
    if beat.stalled_seconds <= limit:
        return None
    return live.ask_to_stop(StopCause.STUCK, f"{_describe_stall(beat)} (limit {limit:.0f} s)")


def _run_on(live: LiveRun, beat: Heartbeat) -> Verdict:
    """All is well, but for what is worth a word."""
    spec, control = live.seen.spec, live.seen.control
    silent = max(0.0, live.seen.now - beat.at)
    notes = [f"{live.short}, heartbeat {silent:.0f} s ago"]
    if beat.stalled_seconds > live.seen.policy.heartbeat_timeout:
        notes.append(_describe_stall(beat))
    if live.run.version != spec.version:
        notes.append(f"{_describe_change(live)}: it is replaced once it has committed")
    for name, why in sorted(control.paused_streams.items()):
        notes.append(f"{name} is paused by {why}, go on with: headrace resume {spec.name} --stream {name}")
    return [], Phase.RUNNING, "; ".join(notes)


def _describe_change(live: LiveRun) -> str:
    return f"code or settings changed ({live.run.version or 'none'} -> {live.seen.spec.version})"


def _describe_stall(beat: Heartbeat) -> str:
    return f"{beat.stalled_query} is busy with one batch for {beat.stalled_seconds:.0f} s"


# The order is part of the rules: what a silent host last said does not count, and a wish comes before a judgement.
_RULES: tuple[Callable[[LiveRun, Heartbeat], Verdict | None], ...] = (
    _suspect_silent,
    _stop_undesired,
    _restart_requested,
    _replace_changed,
    _recycle_old,
    _wait_for_phase,
    _stop_stuck,
)
