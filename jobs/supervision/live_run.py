"""What to do about a group whose run is unfinished: a list of rules, of which the first that applies counts.

Pure, a part of `decide`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jobs.supervision.beating_run import judge_beating
from jobs.supervision.model import (
    Action,
    CancelRun,
    KillProcess,
    Phase,
    ReportRunEnded,
    RunView,
    StopCause,
    StopRecord,
    WriteStop,
)
from jobs.supervision.requests import find_reason_to_stop
from jobs.supervision.situation import LiveRun, Situation, Verdict


def judge_live(situation: Situation, run: RunView) -> Verdict:
    """`run` is unfinished, and hosts the group."""
    heartbeat = situation.heartbeat
    beat = heartbeat if heartbeat is not None and heartbeat.run_id == run.run_id else None
    live = LiveRun(run, situation, beat)
    for rule in _RULES:
        if (verdict := rule(live)) is not None:
            return verdict
    return _wait_for_first_beat(live) if beat is None else judge_beating(live, beat)


def _wait_in_queue(live: LiveRun) -> Verdict | None:
    if live.run.status != "queued":
        return None
    undesired = find_reason_to_stop(live.seen.spec, live.seen.control)
    if undesired is None:
        return [], Phase.QUEUED, f"{live.short} waits in the run queue"
    cause, why = undesired
    record = StopRecord(live.run.run_id, cause, why, live.seen.now, cancelled_at=live.seen.now)
    return [WriteStop(record), CancelRun(live.run.run_id)], Phase.STOPPING, f"queued {live.short}: {why}"


def _wait_for_launch(live: LiveRun) -> Verdict | None:
    if live.run.status == "starting" and live.beat is None:
        return [], Phase.STARTING, f"{live.short} is being launched"
    return None


def _report_gone(live: LiveRun) -> Verdict | None:
    if live.beat is None or live.seen.process_alive is not False:
        return None
    process = live.beat.process
    message = f"The process of this run (pid {process.pid} on {process.host}) is gone without a word."
    ended = ReportRunEnded(live.run.run_id, message, live.run.status == "canceling")
    return [ended], Phase.FAILING, f"{live.short}: its process is gone"


def _climb_stop_ladder(live: LiveRun) -> Verdict | None:
    """A record that the host polls, then a cancellation of the run, then a kill of exactly that process."""
    stop, seen, run = live.seen.control.stop, live.seen, live.run
    if stop is None or stop.run_id != run.run_id:
        return None
    now, patience = seen.now, seen.policy.stop_grace + seen.policy.stop_slack
    asked_at = stop.at if stop.cancelled_at is None else stop.cancelled_at
    if asked_at - now > seen.policy.heartbeat_timeout:  # the clock was set back: how long it was is not known any more
        anew = replace(stop, at=now) if stop.cancelled_at is None else replace(stop, cancelled_at=now)
        return [WriteStop(anew)], Phase.STOPPING, f"{live.short} has its time to stop anew, the clock was set back"
    if stop.cancelled_at is None:
        if now - stop.at <= patience:
            return [], Phase.STOPPING, f"{live.short} stops: {stop.why}"
        record = replace(stop, cancelled_at=now)
        return [WriteStop(record), CancelRun(run.run_id)], Phase.STOPPING, f"{live.short} is cancelled: {stop.why}"
    if now - stop.cancelled_at <= patience:
        return [], Phase.STOPPING, f"{live.short} was cancelled {now - stop.cancelled_at:.0f} s ago: {stop.why}"
    message = f"Stopped by force after it ignored a stop record and a cancellation: {stop.why}."
    actions = [WriteStop(replace(stop, killed_at=now)), *_kill(live), ReportRunEnded(run.run_id, message)]
    return actions, Phase.FAILING, f"{live.short} is killed: {stop.why}"


def _wait_for_terminated(live: LiveRun) -> Verdict | None:
    """A person pressed Terminate: the host has the stop ladder's patience, watched by this supervisor, then no more."""
    if live.run.status != "canceling":
        return None
    policy, watched = live.seen.policy, live.seen.watched_for(Phase.STOPPING)
    if watched <= policy.stop_grace + policy.stop_slack:
        return [], Phase.STOPPING, f"{live.short} is being terminated and finishes its batches in flight"
    message = f"Stopped by force: it ignored Terminate for {watched:.0f} s."
    ended = ReportRunEnded(live.run.run_id, message, cancelled=True)
    return [*_kill(live), ended], Phase.FAILING, f"{live.short} ignored Terminate and is killed"


def _kill(live: LiveRun) -> list[Action]:
    """The run's process, where it is known to live here."""
    return [KillProcess(live.beat.process)] if live.beat is not None and live.seen.process_alive else []


def _wait_for_first_beat(live: LiveRun) -> Verdict:
    limit = live.seen.policy.start_timeout
    if live.age <= limit:
        return [], Phase.STARTING, f"{live.short} has not reported yet ({live.age:.0f} s)"
    return live.ask_to_stop(StopCause.HUNG, f"no heartbeat within {limit:.0f} s of its start")


# The order is part of the rules: a run that is gone is not waited for, one that is being stopped is not judged again.
_RULES: tuple[Callable[[LiveRun], Verdict | None], ...] = (
    _wait_in_queue,
    _wait_for_launch,
    _report_gone,
    _climb_stop_ladder,
    _wait_for_terminated,
)
