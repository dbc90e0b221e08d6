"""The supervisor's one decision: what to do about a group now. Pure; the sensor does the I/O around it.

Truth is the heartbeat and the lock, not the run's status: a run can read STARTED for ever after a reboot, and
CANCELED while its process still writes. Holds and back-off are read from the runs themselves (how they ended, what
they committed), so that a lost cursor forgets nothing that matters.

Promises, tested on random histories: never a launch while a run of the group is unfinished or its lock is held; a
held group stays held until a person resumes it (or, after a terminal error, until code or settings change); only a
process proved to be the one meant is killed; without further disturbance an enabled group ends RUNNING or held.
"""

from __future__ import annotations

from dataclasses import replace

from jobs.supervision.idle_group import judge_idle
from jobs.supervision.live_run import judge_live
from jobs.supervision.model import Decision, RunView, SupervisorState
from jobs.supervision.orphaned_lock import judge_orphan
from jobs.supervision.run_ends import stops_as_stuck
from jobs.supervision.situation import Situation


def decide(situation: Situation) -> Decision:
    """Compares the desired state of a group with reality and returns what to do, in order."""
    run_id = situation.watched_run_id
    if situation.state.run_id != run_id:  # what was watched was another run
        situation = replace(situation, state=SupervisorState())
    if (host := situation.host) is not None:
        actions, phase, reason = judge_live(_with_patience(situation, host), host)
    elif situation.lock.held:
        actions, phase, reason = judge_orphan(situation)
    else:
        actions, phase, reason = judge_idle(situation)
    state, now = situation.state, situation.now
    # A phase that began in the future was seen before the clock was set back: it is watched from now on.
    since = state.phase_since if phase == state.phase and state.phase_since <= now else now
    paused_streams = tuple(sorted(situation.control.paused_streams))
    return Decision(tuple(actions), SupervisorState(phase, since, paused_streams, reason, run_id), phase, reason)


def _with_patience(situation: Situation, host: RunView) -> Situation:
    """A batch that was stopped as stuck has more time in the next run, until something has been committed."""
    policy = situation.policy
    stops = 0 if host.committed else stops_as_stuck(situation.spec, situation.runs, situation.control)
    return replace(situation, policy=replace(policy, stuck_timeout=policy.stuck_limit(stops)))
