"""Random histories of a small world around `decide`: whatever happens, never two writers, holds hold, it converges."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.supervision.decide import decide
from jobs.supervision.model import (
    Action,
    CancelRun,
    Decision,
    ExitKind,
    GroupSpec,
    Heartbeat,
    KillProcess,
    Launch,
    Phase,
    ReportRunEnded,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.situation import Situation
from resources.processes import ProcessIdentity
from tests.unit.supervised_world import POLICY, Host, World

GROUP = "clickstream"
# What rules take, by the argument's name; all others are booleans.
VALUES = {
    "seconds": [1.0, 5.0, 5.0, 5.0, 30.0, 90.0, 400.0, 4000.0],
    "jump_seconds": [-7200.0, -600.0, -40.0, -3.0, 3.0, 40.0, 600.0, 7200.0],
}


class Histories(RuleBasedStateMachine):
    """Disturbances and ticks in any order; `teardown` stops disturbing and demands convergence."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.state = SupervisorState()
        self.clock_went_forward = False
        self.replaced: Heartbeat | None = None
        self.keys: set[str] = set()
        self.held_by_person = False
        self.phase: Phase | None = None

    # --- the supervisor

    @rule(keep_cursor=st.booleans(), twice=st.booleans())
    def tick(self, keep_cursor: bool, twice: bool = False) -> None:
        world = self.world
        if not keep_cursor:
            self.state = SupervisorState()
        heartbeat = world.heartbeat
        decision = decide(
            Situation(
                world.now,
                GroupSpec(GROUP, world.version),
                [run for n, run in enumerate(world.runs) if n < 25 or not run.is_finished],
                heartbeat,
                world.is_alive(heartbeat.process) if heartbeat else None,
                world.lock(),
                world.control,
                self.state,
                POLICY,
            )
        )
        self.state, self.phase = decision.state, decision.phase
        assert decision.reason
        self.act_on(decision)
        if twice:  # another daemon saw the same, and acts on it after this one
            self.act_on(decision)

    def act_on(self, decision: Decision) -> None:
        for action in decision.actions:
            self.act(action)

    def act(self, action: Action) -> None:
        world = self.world
        match action:
            case Launch(run_key):
                if run_key not in self.keys:
                    assert all(run.is_finished for run in world.runs), "launched next to an unfinished run"
                    assert not world.writers(), "launched while the lock is held"
                    assert not self.held_by_person, "launched although a person holds the group"
                    self.keys.add(run_key)
                    world.add_run(world.version)
            case WriteStop(record):
                world.control = replace(world.control, stop=record)
                world.update(record.run_id, stop_cause=record.cause, stop_step=record.step)
            case CancelRun(run_id):
                status = "canceled" if world.find(run_id).status == "queued" else "canceling"
                world.update(run_id, status=status, **({"ended_at": world.now} if status == "canceled" else {}))
            case KillProcess(process):
                self.kill(process)
            case ReportRunEnded(run_id, _, cancelled):
                world.end(run_id, "canceled" if cancelled else "failure")

    def kill(self, process: ProcessIdentity) -> None:
        world = self.world
        for host in world.hosts.values():
            if host.process == process and host.host_alive:
                # A clock that is set forward during a stop uses up its patience: what is cut is replayed.
                patient = not self.clock_went_forward
                assert host.hung or world.find(host.run_id).is_finished or not patient, "a healthy host was killed"
                host.host_alive, host.died_at = False, world.uptime
            if host.jvm == process:
                assert not host.host_alive, "a JVM was killed under its host"
                host.jvm_alive = False

    # --- time

    @rule(seconds=st.sampled_from(VALUES["seconds"]))
    def pass_time(self, seconds: float) -> None:
        self.world.advance(seconds)

    # --- disturbances

    def some_host(self) -> Host | None:
        return next(iter(self.world.live_hosts()), None)

    def has_healthy_host(self) -> bool:
        host = self.some_host()
        return host is not None and not host.hung

    def has_host_of_a_started_run(self) -> bool:
        host = self.some_host()
        return host is not None and self.world.find(host.run_id).status == "started"

    @precondition(lambda self: self.some_host())
    @rule(stuck_jvm=st.booleans(), reported=st.booleans())
    def kill_9_of_the_host(self, stuck_jvm: bool, reported: bool) -> None:
        host = self.some_host()
        assert host is not None
        host.host_alive, host.jvm_stuck, host.died_at = False, stuck_jvm, self.world.uptime
        if reported:
            self.world.end(host.run_id, "failure")

    @precondition(lambda self: self.some_host())
    @rule()
    def kill_9_of_the_jvm(self) -> None:
        host = self.some_host()
        assert host is not None
        host.jvm_alive = False

    @precondition(lambda self: self.some_host())
    @rule()
    def hang(self) -> None:
        host = self.some_host()
        assert host is not None
        host.hung = True

    @precondition(lambda self: self.has_healthy_host())
    @rule()
    def get_stuck(self) -> None:
        host = self.some_host()
        assert host is not None
        host.stuck = True

    @rule(jump_seconds=st.sampled_from(VALUES["jump_seconds"]))
    def set_the_clock(self, jump_seconds: float) -> None:
        self.world.now += jump_seconds
        self.clock_went_forward = self.clock_went_forward or jump_seconds > 0

    @precondition(lambda self: self.world.heartbeat is not None)
    @rule()
    def beat_late(self) -> None:
        """A host that was replaced wakes up in the midst of writing its heartbeat."""
        hosts = self.world.hosts
        if self.replaced is not None and not hosts[self.replaced.run_id].host_alive:
            self.replaced = None
        before, self.replaced = self.replaced, self.world.heartbeat
        if before is not None:
            self.world.heartbeat = before

    @rule()
    def reboot(self) -> None:
        for host in self.world.hosts.values():
            self.world.close(host)
        self.world.draining = False

    def leave(self, status: str, kind: ExitKind) -> None:
        host = self.some_host()
        assert host is not None
        self.world.close(host)
        self.world.end(host.run_id, status, kind)

    @precondition(lambda self: self.has_healthy_host())
    @rule()
    def interrupt(self) -> None:
        self.leave("success", ExitKind.INTERRUPTED)

    @precondition(lambda self: self.has_healthy_host())
    @rule()
    def commit(self) -> None:
        host = self.some_host()
        assert host is not None
        self.world.update(host.run_id, committed=True)

    @precondition(lambda self: self.has_healthy_host())
    @rule()
    def fail_for_good(self) -> None:
        self.leave("failure", ExitKind.TERMINAL)

    @precondition(lambda self: self.has_healthy_host())
    @rule()
    def miss_the_broker(self) -> None:
        self.leave("failure", ExitKind.UNAVAILABLE)

    @rule()
    def change_version(self) -> None:
        self.world.version = f"{self.world.version}x"

    @precondition(lambda self: not self.world.writers())
    @rule()
    def start_drain(self) -> None:
        self.world.draining = True

    @rule()
    def end_drain(self) -> None:
        self.world.draining = False

    # --- people

    @rule()
    def pause(self) -> None:
        self.world.control = replace(self.world.control, paused=True)
        self.held_by_person = True

    @precondition(lambda self: self.has_host_of_a_started_run())
    @rule()
    def terminate_in_the_ui(self) -> None:
        host = self.some_host()
        assert host is not None
        only = [run for run in self.world.runs if not run.is_finished]
        stopped_by_us = self.world.find(host.run_id).stop_cause is not None
        self.world.update(host.run_id, status="canceling")
        if not host.hung and len(only) == 1 and not stopped_by_us:
            self.world.advance(1.0)
            self.held_by_person = self.world.find(host.run_id).status == "canceled"

    @rule(restart=st.booleans())
    def resume(self, restart: bool) -> None:
        ended = tuple(run.run_id for run in self.world.runs if run.is_finished)
        living = tuple(run.run_id for run in self.world.runs if not run.is_finished) if restart else ()
        self.world.control = replace(self.world.control, paused=False, forgiven_runs=ended, restart_runs=living)
        self.held_by_person = False

    @rule()
    def start_from_the_launchpad(self) -> None:
        self.held_by_person = self.world.control.paused  # a person's decision too
        self.world.add_run(self.world.version, by_hand=True)

    # --- promises

    @invariant()
    def at_most_one_writer(self) -> None:
        assert len(self.world.writers()) <= 1

    def teardown(self) -> None:
        self.end_drain()
        self.resume(restart=False)
        settled = 0
        for _ in range(400):
            self.world.advance(5.0)
            self.tick(keep_cursor=True)
            if self.phase in (Phase.HELD_OPERATOR, Phase.NEEDS_ATTENTION):
                self.resume(restart=False)  # an ending that was still under way when the disturbances stopped
            settled = settled + 1 if self.phase in (Phase.RUNNING, Phase.HELD_CRASH_LOOP) else 0
            if settled == 5:
                break
        assert self.phase in (Phase.RUNNING, Phase.HELD_CRASH_LOOP), f"stuck in {self.phase}"
        assert self.phase is not Phase.RUNNING or len(self.world.writers()) == 1


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
