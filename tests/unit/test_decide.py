"""Each row of the failure table, one decision at a time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from jobs.supervision.decide import decide
from jobs.supervision.model import (
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
    ProcessIdentity,
    ReportRunEnded,
    RunView,
    StopCause,
    StopRecord,
    StopStep,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.policy import Policy
from jobs.supervision.situation import Situation

NOW = 1_000_000.0
POLICY = Policy()
SPEC = GroupSpec("clickstream", "v1")
FREE = LockView(held=False)
HOST = ProcessIdentity("here", 100, "boot:1")
JVM = ProcessIdentity("here", 101, "boot:2")


def run(run_id: str = "run-1", status: str = "started", **values: object) -> RunView:
    base = RunView(run_id, status, created_at=NOW - 100, started_at=NOW - 95, version="v1")  # type: ignore[arg-type]
    if base.is_finished:
        base = replace(base, ended_at=NOW - 1)
    return replace(base, **values)  # type: ignore[arg-type]


def beat(age: float = 1.0, run_id: str = "run-1", phase: str = "running") -> Heartbeat:
    return Heartbeat(run_id, NOW - age, HOST, phase, 1, JVM)


def look(
    *runs: RunView,
    heartbeat: Heartbeat | None = None,
    alive: bool | None = True,
    lock: LockView = FREE,
    control: Control | None = None,
    state: SupervisorState | None = None,
    spec: GroupSpec = SPEC,
    now: float = NOW,
) -> Decision:
    return decide(
        Situation(now, spec, runs, heartbeat, alive, lock, control or Control(), state or SupervisorState(), POLICY)
    )


def watching(phase: Phase, since: float, run_id: str = "run-1") -> SupervisorState:
    return SupervisorState(phase, since, run_id=run_id)


def failed(number: int, age: float, **values: object) -> RunView:
    return run(f"run-{number}", "failure", created_at=NOW - age - 20, ended_at=NOW - age, **values)


# --- healthy lives


def test_first_run_is_launched_with_a_key_for_no_predecessor() -> None:
    decision = look()
    assert decision.actions == (Launch("clickstream:after:none"),)
    assert decision.phase is Phase.LAUNCHING


def test_every_run_has_one_successor_key() -> None:
    finished = run(status="success", exit_kind=ExitKind.INTERRUPTED)
    assert look(finished).actions == look(finished, now=NOW + 5).actions == (Launch("clickstream:after:run-1"),)


def test_queued_and_starting_runs_are_waited_for() -> None:
    assert look(run(status="queued")).phase is Phase.QUEUED
    assert look(run(status="starting")).phase is Phase.STARTING
    assert look(run(started_at=NOW - 10)).phase is Phase.STARTING
    assert look(run(), heartbeat=beat(100, phase="starting")).phase is Phase.STARTING


def test_beating_run_is_left_alone() -> None:
    decision = look(run(), heartbeat=beat())
    assert (decision.phase, decision.actions) == (Phase.RUNNING, ())


def test_restarted_daemon_adopts_a_run_that_beats() -> None:
    decision = look(run(started_at=NOW - 50_000), heartbeat=beat(), state=SupervisorState())
    assert (decision.phase, decision.actions) == (Phase.RUNNING, ())


def test_second_unfinished_run_neither_confuses_nor_launches() -> None:
    extra = run("run-2", "queued", created_at=NOW - 1)
    assert look(extra, run(), heartbeat=beat()).phase is Phase.RUNNING


# --- deaths


def test_run_without_a_process_is_reported_failed_at_once() -> None:
    decision = look(run(), heartbeat=beat(), alive=False)
    assert decision.phase is Phase.FAILING
    [action] = decision.actions
    assert isinstance(action, ReportRunEnded) and action.run_id == "run-1" and not action.cancelled


def test_terminated_run_without_a_process_is_reported_cancelled() -> None:
    [action] = look(run(status="canceling"), heartbeat=beat(), alive=False).actions
    assert isinstance(action, ReportRunEnded) and action.cancelled


def test_first_failure_restarts_without_delay() -> None:
    decision = look(failed(1, 0.0))
    assert (decision.phase, decision.actions) == (Phase.LAUNCHING, (Launch("clickstream:after:run-1"),))


def test_repeated_failures_back_off_exponentially_up_to_the_cap() -> None:
    delays = [POLICY.delay(n, "run") for n in range(1, 40)]
    assert delays[0] == 0.0
    assert 4.0 <= delays[1] <= 6.0
    assert all(1.9 < later / earlier < 2.1 for earlier, later in itertools.pairwise(delays[1:7]))
    assert max(delays) <= POLICY.backoff_cap
    assert len({POLICY.delay(3, f"run-{n}") for n in range(20)}) == 20


def test_second_failure_waits_then_restarts() -> None:
    runs = (failed(2, 1.0), failed(1, 30.0))
    waiting = look(*runs)
    assert (waiting.phase, waiting.actions) == (Phase.BACKOFF, ())
    assert look(*runs, now=NOW + 10).phase is Phase.LAUNCHING


def test_committed_batch_forgives_earlier_failures() -> None:
    runs = (failed(3, 1.0, committed=True), failed(2, 20.0), failed(1, 40.0))
    assert look(*runs).phase is Phase.LAUNCHING


def test_clock_set_back_does_not_postpone_a_restart() -> None:
    runs = (failed(2, 1.0), failed(1, 30.0))
    assert look(*runs, now=NOW - 4000).phase is Phase.LAUNCHING


# --- crash loop


def crash_loop(age: float = 1.0) -> tuple[RunView, ...]:
    return tuple(failed(9 - n, age + n * 60, exit_reason="Broken.") for n in range(5))


def test_crash_loop_is_held_with_reason_and_what_to_do() -> None:
    decision = look(*crash_loop())
    assert (decision.phase, decision.actions) == (Phase.HELD_CRASH_LOOP, ())
    assert "Broken." in decision.reason and "headrace resume clickstream" in decision.reason


def test_crash_loop_is_probed_slowly_and_stays_held_after_a_failed_probe() -> None:
    assert look(*crash_loop(POLICY.probe_interval)).phase is Phase.LAUNCHING
    assert look(failed(20, 5.0), *crash_loop(1900)).phase is Phase.HELD_CRASH_LOOP


def test_a_group_whose_broker_is_away_is_probed_as_often_as_it_would_be_restarted() -> None:
    """Held, so that people are told; back within minutes of the broker."""
    away = failed(20, 5.0, exit_kind=ExitKind.UNAVAILABLE, exit_reason="No Kafka broker answered.")
    held = look(away, *crash_loop(60))
    assert held.phase is Phase.HELD_CRASH_LOOP and "No Kafka broker answered." in held.reason
    assert look(away, *crash_loop(60), now=NOW + POLICY.backoff_cap).phase is Phase.LAUNCHING
    answered = failed(21, 5.0)
    assert look(answered, away, *crash_loop(60), now=NOW + POLICY.backoff_cap).phase is Phase.HELD_CRASH_LOOP


def test_slow_failures_without_any_commit_are_a_crash_loop_too() -> None:
    runs = tuple(failed(30 - n, 1.0 + n * 1000) for n in range(10))
    assert look(*runs).phase is Phase.HELD_CRASH_LOOP
    assert look(*runs[:9]).phase is Phase.BACKOFF


def test_resume_and_new_version_clear_a_crash_loop() -> None:
    forgiven = tuple(run.run_id for run in crash_loop())
    assert look(*crash_loop(), control=Control(forgiven_runs=forgiven)).phase is Phase.LAUNCHING
    assert look(failed(99, 1.0), *crash_loop(120), control=Control(forgiven_runs=forgiven)).phase is Phase.LAUNCHING
    assert look(*crash_loop(), spec=GroupSpec("clickstream", "v2")).phase is Phase.LAUNCHING


def test_ctrl_c_does_not_fix_a_crash_loop() -> None:
    interrupted = run("run-50", "success", exit_kind=ExitKind.INTERRUPTED, ended_at=NOW - 60, created_at=NOW - 70)
    newest = failed(60, 1.0)
    assert look(newest, interrupted, *crash_loop(120)).phase is Phase.HELD_CRASH_LOOP


# --- people


def test_terminate_in_the_ui_holds_until_resumed() -> None:
    cancelled = run(status="canceled")
    held = look(cancelled, now=NOW + 100_000)
    assert (held.phase, held.actions) == (Phase.HELD_OPERATOR, ())
    assert look(cancelled, control=Control(forgiven_runs=("run-1",))).phase is Phase.LAUNCHING


def test_terminate_holds_although_the_process_died_meanwhile() -> None:
    assert look(run(status="failure", exit_kind=ExitKind.TERMINATED)).phase is Phase.HELD_OPERATOR


def test_new_version_does_not_end_a_persons_hold() -> None:
    assert look(run(status="canceled"), spec=GroupSpec("clickstream", "v2")).phase is Phase.HELD_OPERATOR


def test_terminate_during_our_graceful_stop_is_still_a_persons_decision() -> None:
    asked = run(status="canceled", stop_cause=StopCause.UPGRADE, stop_step=StopStep.ASKED)
    assert look(asked).phase is Phase.HELD_OPERATOR


def test_interrupted_run_restarts_at_once() -> None:
    assert look(run(status="success", exit_kind=ExitKind.INTERRUPTED)).phase is Phase.LAUNCHING
    assert look(run(status="failure", exit_kind=ExitKind.INTERRUPTED)).phase is Phase.LAUNCHING


def test_pause_stops_a_live_run_and_holds_until_resumed() -> None:
    paused = Control(paused=True, paused_by="ann", pause_reason="upgrade of Kafka")
    stopping = look(run(), heartbeat=beat(), control=paused)
    [action] = stopping.actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.PAUSE
    held = look(run(status="success", exit_kind=ExitKind.STOPPED), control=paused)
    assert held.phase is Phase.HELD_OPERATOR and "ann" in held.reason and "upgrade of Kafka" in held.reason


def test_paused_group_gives_its_queued_run_back() -> None:
    decision = look(run(status="queued"), control=Control(paused=True))
    assert CancelRun("run-1") in decision.actions
    given_back = run(status="canceled", stop_cause=StopCause.PAUSE, stop_step=StopStep.CANCELLED)
    assert look(given_back).phase is Phase.LAUNCHING


def test_restart_replaces_a_live_run_and_ends_a_hold() -> None:
    again = Control(forgiven_runs=("run-0",), restart_runs=("run-1",))
    [action] = look(run(), heartbeat=beat(), control=again).actions
    assert isinstance(action, WriteStop) and action.record.cause is StopCause.RESTART
    assert look(run("run-2", created_at=NOW + 1), heartbeat=beat(run_id="run-2"), control=again).phase is Phase.RUNNING
    assert look(run("run-0", status="canceled"), control=again).phase is Phase.LAUNCHING


# --- terminal errors


def test_terminal_error_needs_attention_and_says_what_to_do() -> None:
    broken = run(status="failure", exit_kind=ExitKind.TERMINAL, exit_reason="Topic x does not exist. Create it.")
    decision = look(broken, now=NOW + 1_000_000)
    assert (decision.phase, decision.actions) == (Phase.NEEDS_ATTENTION, ())
    assert "Topic x does not exist. Create it." in decision.reason and "headrace resume" in decision.reason
    assert look(broken, control=Control(forgiven_runs=("run-1",))).phase is Phase.LAUNCHING
    assert look(broken, spec=GroupSpec("clickstream", "v2")).phase is Phase.LAUNCHING


def test_run_that_found_the_lock_taken_changes_no_hold() -> None:
    refused = run("run-2", "failure", exit_kind=ExitKind.OWNED, created_at=NOW - 5)
    assert look(refused, run(status="canceled")).phase is Phase.HELD_OPERATOR
    assert look(refused).phase is Phase.LAUNCHING
    assert look(refused, failed(1, 20)).actions == (Launch("clickstream:after:run-2"),)


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
