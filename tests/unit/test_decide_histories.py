"""Random histories of a small world around `decide`: whatever happens, never two writers, holds hold, it converges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.supervision.decide import decide
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
    ProcessIdentity,
    ReportRunEnded,
    RunView,
    SupervisorState,
    WriteStop,
)
from jobs.supervision.policy import Policy
from jobs.supervision.situation import Situation

GROUP = "clickstream"
POLICY = Policy(heartbeat_timeout=30, stop_grace=20, stop_slack=5)
JVM_OUTLIVES_HOST_SECONDS = 2.0
# What rules take, by the argument's name; all others are booleans.
VALUES = {
    "seconds": [1.0, 5.0, 5.0, 5.0, 30.0, 90.0, 400.0, 4000.0],
    "jump_seconds": [-7200.0, -600.0, -40.0, -3.0, 3.0, 40.0, 600.0, 7200.0],
}


@dataclass
class Host:
    """A run's process and its JVM. The lock is held while either lives and it had been taken."""

    run_id: str
    process: ProcessIdentity
    jvm: ProcessIdentity
    host_alive: bool = True
    jvm_alive: bool = True
    jvm_stuck: bool = False
    hung: bool = False
    stuck: bool = False
    began_at: float = 0.0  # uptime, as the next
    died_at: float = 0.0

    @property
    def holds_lock(self) -> bool:
        return self.host_alive or self.jvm_alive


@dataclass
class World:
    """Dagster, the machine and the people, as far as the supervisor can tell."""

    now: float = 1_000_000.0  # what clocks say
    uptime: float = 0.0
    version: str = "v1"
    runs: list[RunView] = field(default_factory=list)  # newest first
    hosts: dict[str, Host] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    control: Control = field(default_factory=Control)
    draining: bool = False
    pids: int = 100

    def find(self, run_id: str) -> RunView:
        return next(run for run in self.runs if run.run_id == run_id)

    def update(self, run_id: str, **values: object) -> None:
        self.runs = [replace(r, **values) if r.run_id == run_id else r for r in self.runs]  # type: ignore[arg-type]

    def end(self, run_id: str, status: str, kind: ExitKind | None = None) -> None:
        if not self.find(run_id).is_finished:
            values: dict[str, object] = {"status": status, "ended_at": self.now}
            if kind is not None:
                values |= {"exit_kind": kind, "exit_reason": "It broke. Fix it."}
            self.update(run_id, **values)

    def close(self, host: Host) -> None:
        host.host_alive = host.jvm_alive = False

    def writers(self) -> list[str]:
        held = [run_id for run_id, host in self.hosts.items() if host.holds_lock]
        return held + (["drain"] if self.draining else [])

    def add_run(self, version: str, by_hand: bool = False) -> None:
        run_id = f"run-{len(self.runs)}"
        self.runs.insert(0, RunView(run_id, "queued", created_at=self.now, version=version, by_hand=by_hand))

    def live_hosts(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.host_alive]

    def advance(self, seconds: float) -> None:
        """Lets time pass: the queue, the hosts' loops, the death of JVMs whose host is gone, run monitoring."""
        self.now += seconds
        self.uptime += seconds
        for host in self.hosts.values():
            gone = not host.host_alive and not host.jvm_stuck
            if gone and self.uptime - host.died_at >= JVM_OUTLIVES_HOST_SECONDS:
                host.jvm_alive = False
        for host in self.live_hosts():
            self._loop(host)
        busy = [run for run in self.runs if run.status in ("starting", "started", "canceling")]
        queued = [run for run in self.runs if run.status == "queued"]
        if queued and not busy:
            self._start(queued[-1])

    def _loop(self, host: Host) -> None:
        run = self.find(host.run_id)
        if host.hung:
            if run.status == "canceling" and self.uptime - host.began_at > 10_000:
                self.end(run.run_id, "canceled")  # run monitoring gives up; the process lives on
            return
        if not host.jvm_alive:
            self.close(host)
            self.end(run.run_id, "failure", ExitKind.ERROR)
        elif run.status == "canceling":
            self.close(host)
            self.end(run.run_id, "canceled", ExitKind.TERMINATED)
        elif run.is_finished:
            self.close(host)
        elif self.control.stop is not None and self.control.stop.run_id == run.run_id:
            self.close(host)
            self.end(run.run_id, "success", ExitKind.STOPPED)
        else:
            self.beat(host)

    def beat(self, host: Host) -> None:
        query, seconds = ("events", 1 + POLICY.stuck_limit(POLICY.stuck_doublings)) if host.stuck else ("", 0.0)
        self.heartbeat = Heartbeat(host.run_id, self.now, host.process, "running", 1, host.jvm, query, seconds)

    def _start(self, run: RunView) -> None:
        self.update(run.run_id, status="started", started_at=self.now)
        if self.writers():
            self.end(run.run_id, "failure", ExitKind.OWNED)
            return
        self.pids += 2
        names = [ProcessIdentity("here", self.pids + n, f"boot:{self.pids + n}") for n in range(2)]
        host = Host(run.run_id, names[0], names[1], began_at=self.uptime)
        self.hosts[run.run_id] = host
        self.beat(host)

    def lock(self) -> LockView:
        if self.draining:
            return LockView(True, "drain", text="a drain")
        for host in self.hosts.values():
            if host.holds_lock:
                return LockView(True, "run", host.run_id, host.process, host.host_alive, f"run {host.run_id}")
        return LockView(held=False)

    def is_alive(self, process: ProcessIdentity) -> bool:
        return any(h.host_alive for h in self.hosts.values() if h.process == process)


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
