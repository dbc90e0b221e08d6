"""What to do about a lock that is held though no run of the group lives. Pure, a part of `decide`."""

from __future__ import annotations

from jobs.supervision.model import KillProcess, Phase, RunView
from jobs.supervision.requests import describe_pause
from jobs.supervision.situation import Situation, Verdict


def judge_orphan(situation: Situation) -> Verdict:
    """A drain holds the lock, or what is left of a run. Never launches; kills only the remains of our own run."""
    lock, control = situation.lock, situation.control
    held = f"the lock is held by {lock.text or 'an unknown process'}"
    if lock.owner_mode != "run":
        if control.paused:
            return [], Phase.HELD_OPERATOR, f"{describe_pause(control)}; {held}"
        # Nobody is to be told each night that the group rests, only where the copy does not end.
        is_short = situation.state.phase is not Phase.ORPHAN and (
            situation.watched_for(Phase.QUEUED) < situation.policy.start_timeout
        )
        phase = Phase.QUEUED if lock.owner_mode == "nightly-backup" and is_short else Phase.ORPHAN
        return [], phase, f"{held}; nothing is launched until it ends"
    owner_run = next((run for run in situation.runs if run.run_id == lock.owner_run_id), None)
    if owner_run is None or owner_run.ended_at is None:
        return [], Phase.ORPHAN, f"{held}, whose run is not known here; stop that process"
    return _judge_remains(situation, owner_run, owner_run.ended_at, held)


def _judge_remains(situation: Situation, owner_run: RunView, ended_at: float, held: str) -> Verdict:
    lock, heartbeat, policy, state = situation.lock, situation.heartbeat, situation.policy, situation.state
    if state.phase is Phase.ORPHAN:  # watched by this supervisor, whatever the clock said when the run ended
        ended_at = min(ended_at, state.phase_since)
    # A batch is written by the host: without it the JVM has nothing left to finish.
    patience = policy.jvm_grace if lock.owner_alive is False else policy.stop_grace + policy.stop_slack
    left = ended_at + patience - situation.now
    if left > 0:
        return [], Phase.ORPHAN, f"{held}, whose run has ended; it is killed in {left:.0f} s"
    if lock.owner is not None and lock.owner_alive:
        return [KillProcess(lock.owner)], Phase.ORPHAN, f"{held}, whose run has ended; it is killed"
    jvm = heartbeat.jvm if heartbeat is not None and heartbeat.run_id == owner_run.run_id else None
    if jvm is not None and lock.owner_alive is False:
        return [KillProcess(jvm)], Phase.ORPHAN, f"{held}, of which only Spark's JVM lives; it is killed"
    return [], Phase.ORPHAN, f"{held}, whose run has ended; stop that process by hand"
