"""A small world around one supervised group: Dagster's runs, the machine's processes, and people."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobs.supervision.model import (
    Control,
    ExitKind,
    Heartbeat,
    LockView,
    RunView,
)
from jobs.supervision.policy import Policy
from resources.processes import ProcessIdentity

POLICY = Policy(heartbeat_timeout=30, stop_grace=20, stop_slack=5)
JVM_OUTLIVES_HOST_SECONDS = 2.0


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
