"""Each row of the failure table, one decision at a time: when a run is launched, and when a group is held."""

from __future__ import annotations

import itertools

from jobs.supervision.model import (
    CancelRun,
    Control,
    ExitKind,
    GroupSpec,
    Launch,
    Phase,
    ReportRunEnded,
    RunView,
    StopCause,
    StopStep,
    SupervisorState,
    WriteStop,
)
from tests.unit.supervised_group import NOW, POLICY, beat, failed, look, run

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
