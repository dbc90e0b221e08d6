"""Each row of the failure table, one decision at a time: what is done to a run that lives, or to what is left of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.supervision.model import (
    CancelRun,
    Control,
    Decision,
    ExitKind,
    GroupSpec,
    Heartbeat,
    KillProcess,
    LockView,
    Phase,
    ReportRunEnded,
    RunView,
    StopCause,
    StopRecord,
    StopStep,
    SupervisorState,
    WriteStop,
)
from tests.unit.supervised_group import HOST, JVM, NOW, POLICY, beat, failed, look, run, watching

# --- hangs and the stop ladder


def test_stale_heartbeat_is_suspect_first() -> None:
    decision = look(run(), heartbeat=beat(3600))
    assert (decision.phase, decision.actions) == (Phase.SUSPECT, ())


def test_suspicion_that_lasts_asks_the_run_to_stop() -> None:
    suspect = watching(Phase.SUSPECT, NOW - POLICY.heartbeat_timeout)
    decision = look(run(), heartbeat=beat(60), state=suspect)
    [action] = decision.actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.HUNG


def test_suspect_run_that_beats_again_is_forgiven() -> None:
    assert look(run(), heartbeat=beat(), state=SupervisorState(Phase.SUSPECT, NOW - 20)).phase is Phase.RUNNING


def test_run_that_never_beats_is_stopped() -> None:
    [action] = look(run(started_at=NOW - POLICY.start_timeout - 1)).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.HUNG


def test_stop_ladder_asks_cancels_kills() -> None:
    patience = POLICY.stop_grace + POLICY.stop_slack
    asked = StopRecord("run-1", StopCause.HUNG, "no heartbeat", NOW)

    def at(now: float, record: StopRecord) -> Decision:
        return look(run(), heartbeat=beat(60), control=Control(stop=record), now=now)

    assert at(NOW + patience, asked).actions == ()
    write, cancel = at(NOW + patience + 1, asked).actions
    assert isinstance(write, WriteStop) and cancel == CancelRun("run-1")
    cancelled = write.record
    assert at(NOW + 2 * patience, cancelled).actions == ()
    killing = at(NOW + 2 * patience + 2, cancelled)
    assert killing.phase is Phase.FAILING
    assert isinstance(killing.actions[0], WriteStop) and killing.actions[0].record.step is StopStep.KILLED
    assert killing.actions[1] == KillProcess(HOST)
    assert isinstance(killing.actions[2], ReportRunEnded)


def test_process_on_another_host_is_never_killed_from_here() -> None:
    record = StopRecord("run-1", StopCause.HUNG, "silent", NOW - 1000, cancelled_at=NOW - 500)
    actions = look(run(), heartbeat=beat(60), alive=None, control=Control(stop=record)).actions
    assert not any(isinstance(action, KillProcess) for action in actions)


def test_stop_of_an_earlier_run_does_not_touch_its_successor() -> None:
    old = StopRecord("run-0", StopCause.HUNG, "silent", NOW - 1000, cancelled_at=NOW - 500)
    assert look(run(), heartbeat=beat(), control=Control(stop=old)).phase is Phase.RUNNING


def test_hung_run_that_we_cancelled_counts_as_a_failure() -> None:
    hung = run("run-2", "canceled", stop_cause=StopCause.HUNG, stop_step=StopStep.CANCELLED)
    assert look(hung, failed(1, 20)).phase is Phase.BACKOFF


# --- alive but stuck


def stuck_beat(seconds: float) -> Heartbeat:
    return replace(beat(), stalled_query="sessions", stalled_seconds=seconds)


def test_query_that_is_busy_with_one_batch_for_too_long_is_stopped() -> None:
    [action] = look(run(), heartbeat=stuck_beat(POLICY.stuck_timeout + 1)).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.STUCK
    assert "sessions" in action.record.why


def test_slow_batch_is_shown_and_left_alone() -> None:
    decision = look(run(), heartbeat=stuck_beat(POLICY.stuck_timeout))
    assert (decision.phase, decision.actions) == (Phase.RUNNING, ())
    assert "sessions is busy with one batch for 600 s" in decision.reason
    assert "sessions" not in look(run(), heartbeat=stuck_beat(5)).reason


def test_stuck_run_that_stopped_cleanly_counts_as_a_failure() -> None:
    stuck = run("run-2", "success", exit_kind=ExitKind.STOPPED, stop_cause=StopCause.STUCK, stop_step=StopStep.ASKED)
    assert look(stuck, failed(1, 20)).phase is Phase.BACKOFF


def _stopped_as_stuck(number: int, **values: object) -> RunView:
    return run(f"run-{number}", "success", exit_kind=ExitKind.STOPPED, stop_cause=StopCause.STUCK, **values)


def test_batch_that_was_stopped_as_stuck_has_twice_the_time_in_the_next_run_and_no_end_of_it() -> None:
    stopped = [_stopped_as_stuck(number) for number in range(2, 8)]
    for stops, limit in enumerate((600, 1200, 2400, 4800, 4800, 4800)):
        assert not look(run(), *stopped[:stops], heartbeat=stuck_beat(limit)).actions
        [action] = look(run(), *stopped[:stops], heartbeat=stuck_beat(limit + 1)).actions
        assert isinstance(action, WriteStop) and f"limit {limit} s" in action.record.why


def test_limit_of_a_stuck_query_is_its_own_again_after_a_commit_a_resume_or_other_code() -> None:
    beat_, stopped = stuck_beat(601), _stopped_as_stuck(2)
    assert look(run(committed=True), stopped, heartbeat=beat_).actions
    assert look(run(), stopped, heartbeat=beat_, control=Control(forgiven_runs=("run-2",))).actions
    assert look(run(), replace(stopped, version="v0"), heartbeat=beat_).actions
    # A run that had committed before it was stopped does not forgive its own failure.
    assert not look(run(), replace(stopped, committed=True), heartbeat=beat_).actions


# --- one stream paused


def test_paused_stream_is_named_with_its_way_back_while_its_group_runs() -> None:
    control = Control(paused_streams={"sessions": "ann (a bug)"})
    decision = look(run(), heartbeat=beat(), control=control)
    assert (decision.phase, decision.actions) == (Phase.RUNNING, ())
    assert "sessions is paused by ann (a bug), go on with: headrace resume clickstream --stream" in decision.reason
    assert decision.state.paused_streams == ("sessions",)


# --- planned replacement


def test_two_daemons_with_different_code_let_each_others_runs_commit_first() -> None:
    fresh = look(run(version="v0"), heartbeat=beat())
    assert (fresh.phase, fresh.actions) == (Phase.RUNNING, ())
    assert "it is replaced once it has committed" in fresh.reason
    idle = run(version="v0", started_at=NOW - POLICY.start_timeout - 1)
    assert look(idle, heartbeat=beat()).phase is Phase.STOPPING


def test_changed_version_replaces_the_run_gracefully_and_without_penalty() -> None:
    [action] = look(run(version="v0", committed=True), heartbeat=beat()).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.UPGRADE
    stopped = run(status="canceled", version="v0", stop_cause=StopCause.UPGRADE, stop_step=StopStep.CANCELLED)
    assert look(stopped, failed(0, 30)).phase is Phase.LAUNCHING


def test_old_run_is_recycled() -> None:
    [action] = look(run(started_at=NOW - POLICY.recycle_after - 1), heartbeat=beat()).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.RECYCLE


def test_disabled_group_is_stopped_and_stays_down() -> None:
    off = GroupSpec("clickstream", "v1", "disabled in code")
    [action] = look(run(), heartbeat=beat(), spec=off).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.DISABLED
    assert look(spec=off).phase is Phase.DISABLED


# --- the lock


def test_drain_is_never_disturbed() -> None:
    drain = LockView(True, "drain", "", HOST, True, "a drain (pid 7 on here)")
    decision = look(failed(1, 100_000), lock=drain)
    assert (decision.phase, decision.actions) == (Phase.ORPHAN, ())
    assert "a drain (pid 7 on here)" in decision.reason


def test_nightly_backup_is_waited_for_and_people_are_told_where_it_does_not_end() -> None:
    backup = LockView(True, "nightly-backup", "", HOST, True, "the nightly backup (pid 7 on here)")
    state, phases = SupervisorState(), []
    for at in (0, 10, POLICY.start_timeout - 1, POLICY.start_timeout, POLICY.start_timeout + 600):
        decision = look(run(status="success", ended_at=NOW), lock=backup, state=state, now=NOW + at)
        assert decision.actions == () and "the nightly backup (pid 7 on here)" in decision.reason
        state = decision.state
        phases.append(decision.phase)
    assert phases == [Phase.QUEUED] * 3 + [Phase.ORPHAN] * 2


def test_group_that_was_paused_for_work_at_rest_is_shown_as_held() -> None:
    replay = LockView(True, "replay", "", HOST, True, "a replay (pid 7 on here)")
    decision = look(
        failed(1, 100_000), lock=replay, control=Control(paused=True, paused_by="Ann", pause_reason="replay")
    )
    assert (decision.phase, decision.actions) == (Phase.HELD_OPERATOR, ())
    assert "paused by Ann (replay)" in decision.reason and "a replay (pid 7 on here)" in decision.reason


def test_process_that_outlives_its_run_is_killed_after_the_grace_and_nothing_launched() -> None:
    lock = LockView(True, "run", "run-1", HOST, True, "run run-1")
    ended = run(status="canceled", ended_at=NOW)
    assert look(ended, lock=lock, now=NOW + 10).actions == ()
    assert look(ended, lock=lock, now=NOW + 100).actions == (KillProcess(HOST),)


def test_jvm_that_outlives_its_host_is_killed_soon() -> None:
    lock = LockView(True, "run", "run-1", HOST, False, "run run-1")
    ended = run(status="failure", ended_at=NOW)
    assert look(ended, lock=lock, heartbeat=beat(), now=NOW + POLICY.jvm_grace - 1).actions == ()
    assert look(ended, lock=lock, heartbeat=beat(), now=NOW + POLICY.jvm_grace).actions == (KillProcess(JVM),)
    assert look(ended, lock=lock, heartbeat=beat(run_id="other"), now=NOW + 100).actions == ()


def test_lock_of_an_unknown_process_is_respected() -> None:
    lock = LockView(True, "run", "run-unknown", HOST, True, "run run-unknown")
    decision = look(failed(1, 100_000), lock=lock)
    assert (decision.phase, decision.actions) == (Phase.ORPHAN, ())


# --- clocks that are set back


def test_a_heartbeat_of_a_time_to_come_is_watched_and_then_a_hang() -> None:
    later = beat(age=-7200)
    suspect = look(run(), heartbeat=later)
    assert suspect.phase is Phase.SUSPECT
    watched = watching(Phase.SUSPECT, NOW - POLICY.heartbeat_timeout)
    assert look(run(), heartbeat=later, state=watched).phase is Phase.STOPPING
    assert look(run(), heartbeat=beat(age=-2)).phase is Phase.RUNNING


@pytest.mark.parametrize("cancelled_at", [None, NOW + 7200])
def test_a_stop_of_a_time_to_come_has_its_patience_anew(cancelled_at: float | None) -> None:
    asked = StopRecord("run-1", StopCause.HUNG, "hung", NOW + 7200, cancelled_at)
    (rewritten,) = look(run(), heartbeat=beat(), control=Control(stop=asked)).actions
    assert isinstance(rewritten, WriteStop)
    assert rewritten.record == (replace(asked, at=NOW) if cancelled_at is None else replace(asked, cancelled_at=NOW))
    seconds_apart = replace(asked, at=NOW + 5, cancelled_at=cancelled_at and NOW + 5)
    assert look(run(), heartbeat=beat(), control=Control(stop=seconds_apart)).actions == ()


def test_suspicion_and_orphans_are_watched_anew() -> None:
    ahead = watching(Phase.SUSPECT, NOW + 7200)
    assert look(run(), heartbeat=beat(age=100), state=ahead).state.phase_since == NOW
    lock = LockView(True, "run", "run-1", HOST, True, "run run-1")
    ended = run(status="failure", ended_at=NOW + 7200)
    assert look(ended, lock=lock).actions == ()
    watched = watching(Phase.ORPHAN, NOW - POLICY.stop_grace - POLICY.stop_slack)
    assert look(ended, lock=lock, state=watched).actions == (KillProcess(HOST),)


def test_the_newest_run_is_judged_although_an_older_one_says_it_ended_later() -> None:
    terminated = run("run-2", status="canceled", ended_at=NOW - 7000)
    assert look(terminated, failed(1, 5.0)).phase is Phase.HELD_OPERATOR


def test_a_run_that_a_person_launched_and_took_back_from_the_queue_changes_nothing() -> None:
    taken_back = run("run-3", status="canceled", by_hand=True, started_at=None)
    assert look(taken_back, failed(1, 500.0)).phase is Phase.LAUNCHING
    assert look(taken_back, run("run-2", status="canceled")).phase is Phase.HELD_OPERATOR


def test_what_was_watched_of_another_run_does_not_count() -> None:
    ending = run("run-2", "canceling")
    long_ago = watching(Phase.STOPPING, NOW - 1000, "run-1")
    assert look(ending, heartbeat=beat(run_id="run-2"), state=long_ago).actions == ()
    same = watching(Phase.STOPPING, NOW - 1000, "run-2")
    assert KillProcess(HOST) in look(ending, heartbeat=beat(run_id="run-2"), state=same).actions
