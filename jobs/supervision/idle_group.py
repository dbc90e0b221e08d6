"""What to do about a group without a run: launch one, wait, or hold it. Pure, a part of `decide`."""

from __future__ import annotations

from datetime import UTC, datetime

from jobs.supervision.model import ExitKind, Launch, Phase
from jobs.supervision.requests import describe_pause
from jobs.supervision.run_ends import RunEnd, end_time, failures_in_a_row, is_crash_loop, list_hosted, read_end
from jobs.supervision.situation import Situation, Verdict


def judge_idle(situation: Situation) -> Verdict:
    """No run of the group is unfinished, and nobody holds its lock."""
    spec, runs, control = situation.spec, situation.runs, situation.control
    if spec.disabled_because:
        return [], Phase.DISABLED, spec.disabled_because
    resume = f"headrace resume {spec.name}"
    if control.paused:
        return [], Phase.HELD_OPERATOR, f"{describe_pause(control)}; go on with: {resume}"
    judged = list_hosted(runs)
    if not judged:
        return _launch(situation, "the lock is free again" if runs else "first run")
    last = judged[0]
    end = read_end(last)
    if last.run_id in control.forgiven_runs:
        return _launch(situation, "resumed")
    if end is RunEnd.OPERATOR:
        return [], Phase.HELD_OPERATOR, f"run {last.run_id[:8]} was terminated by a person; go on with: {resume}"
    changed = last.version != spec.version
    if end is RunEnd.TERMINAL and not changed:
        why = last.exit_reason or "a terminal error"
        return [], Phase.NEEDS_ATTENTION, f"{why} When fixed: {resume}"
    if end is RunEnd.CLEAN or changed:
        return _launch(situation, "code or settings changed" if changed else "the last run ended cleanly")
    return _judge_failed(situation)


def _judge_failed(situation: Situation) -> Verdict:
    """The last run has failed: the next one comes after a delay that grows, or after a probe's in a crash loop."""
    now, policy, judged = situation.now, situation.policy, list_hosted(situation.runs)
    last = judged[0]
    ended_at, failures = end_time(last), failures_in_a_row(situation.spec, judged, situation.control)
    why = last.exit_reason or "the process died"
    if is_crash_loop(failures, policy):
        # A service that was away is back without anybody saying so, and a run that misses it starts no Spark.
        is_away = last.exit_kind is ExitKind.UNAVAILABLE
        probe_at = ended_at + (policy.backoff_cap if is_away else policy.probe_interval)
        if now >= probe_at or now < ended_at - policy.backoff_cap:
            return _launch(situation, f"probe after {len(failures)} failures")
        then = f"probe at {_clock(probe_at)}, or at once with: headrace resume {situation.spec.name}"
        return [], Phase.HELD_CRASH_LOOP, f"{len(failures)} failures in a row ({why}); {then}"
    next_at = ended_at + policy.delay(len(failures), last.run_id)
    # A clock set back must not postpone a restart beyond the delay itself.
    if now >= next_at or now < ended_at - policy.backoff_cap:
        return _launch(situation, f"restart after failure {len(failures)}")
    return [], Phase.BACKOFF, f"failure {len(failures)} ({why}); restart at {_clock(next_at)}"


def _launch(situation: Situation, why: str) -> Verdict:
    runs = situation.runs
    run_key = f"{situation.spec.name}:after:{runs[0].run_id if runs else 'none'}"
    return [Launch(run_key)], Phase.LAUNCHING, why


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")
