"""The whole platform as a service manager runs it, with a simulated shop that sends, and what can be done to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import dagster as dg
import psutil

from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.lease import read_report
from jobs.supervision.lease_owner import is_operation
from jobs.supervision.model import Heartbeat, Phase, RunView
from jobs.supervision.run_records import read_runs
from platform_assets.streams import load_stream_groups
from resources.embedded.broker import EmbeddedBroker
from resources.kafka import KafkaResource
from resources.processes import is_alive, kill
from resources.settings import Settings, load_settings
from tests.chaos.live_tables import LiveTables
from tests.chaos.watch import Watch
from tests.chaos.webhook import Webhook

ROOT = Path(__file__).parents[2]
_INJECTED = Path(__file__).parent / "inject"
# The slowest way back takes four times the stop's patience of 75 s, and a start.
LIMIT_SECONDS = 900.0
# After dozens of faults in a row the join may be more than a million rows behind, and the hour's reports take a core.
_READ_THROUGH_SECONDS = 1800.0
POLL_SECONDS = 0.2
# A session is over half an hour after its last event.
HISTORY_HOURS = "3"
# The broker's guard waits ten seconds for a new user; a code server twenty for its daemon.
_END_SECONDS = 60.0

T = TypeVar("T")


class ChaosError(Exception):
    """The platform did not do what it promises."""


class LivePlatform:
    """The settings are those of this process's environment: `HEADRACE_HOME` must be a folder of one's own.

    `skew_seconds`: by how much the clocks of the platform's processes differ.
    """

    def __init__(self, rate: int, seed: int, skew_seconds: float = 0.0) -> None:
        self.settings: Settings = load_settings()
        self.webhook = Webhook()
        # For the platform's processes; this one's clock is right.
        os.environ |= {
            "PYTHONPATH": str(_INJECTED),
            "CHAOS_CLOCK_SKEW_SECONDS": str(skew_seconds),
            "HEADRACE_NOTIFY_URL": self.webhook.url,
        }
        os.environ["DAGSTER_HOME"] = str(ensure_dagster_home(self.settings))
        (self.group,) = load_stream_groups()
        self.instance = dg.DagsterInstance.get()
        self.watch = Watch(self.settings, self.group.name, self.instance)
        self.broker = EmbeddedBroker(self.settings.home)
        self.tables = LiveTables(self.settings.lakehouse)
        self._rate = rate
        self._seed = seed
        self._up: subprocess.Popen[bytes] | None = None
        self._shop: subprocess.Popen[bytes] | None = None

    # --- the platform ---------------------------------------------------------------------------------------------

    def start_services(self, **settings: str) -> None:
        """Starts the platform; `settings` hold from now on. Its streams come when its supervisor says so."""
        os.environ.update(settings)
        with (self.settings.home / "up.log").open("ab") as log:
            self._up = subprocess.Popen(self._command("up"), stdout=log, stderr=log, start_new_session=True)

    def start(self, **settings: str) -> None:
        """Starts the platform, waits until it hosts the streams, and starts the shop where it does not send."""
        self.start_services(**settings)
        self.wait_for(self.host, "the platform hosts the streams")
        if self._shop is None:  # sessions that end from the first minute on
            history = self.run("simulate", "--hours", HISTORY_HOURS, "--seed", str(self._seed), "--quiet")
            if history.returncode != 0:
                raise ChaosError(f"The shop's history could not be sent: {history.stderr}")
        self.open_shop()

    def open_shop(self) -> None:
        """Starts the shop where it does not send: it gives up when the broker has not answered for two minutes."""
        if self._shop is None or self._shop.poll() is not None:
            self._seed += 1  # another shop: a repeated seed would send repeated ids
            options = ("--rate", str(self._rate), "--seed", str(self._seed), "--quiet")
            self._shop = subprocess.Popen(self._command("simulate", *options), start_new_session=True)

    def stop(self) -> int:
        """Stops the platform with SIGTERM, as a service manager does. Returns the exit code."""
        assert self._up is not None
        self._up.terminate()
        return self._up.wait(LIMIT_SECONDS)

    @property
    def up_pid(self) -> int:
        """The process of `headrace up`."""
        assert self._up is not None
        return self._up.pid

    def end(self) -> None:
        """Stops what runs, however the chaos went."""
        self.watch.stop()
        self.webhook.stop()
        for process in (self._shop, self._up):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(LIMIT_SECONDS)
        report = read_report(self.instance, self.group.name)
        host = None if report is None or is_operation(report.heartbeat) else report.heartbeat
        for identity in (host.process, host.jvm) if host is not None else ():
            if identity is not None:
                kill(identity)  # streams whose platform was killed
        self.instance.dispose()

    def processes_left(self) -> list[str]:
        """Processes that have the home in their command line or environment, a little after the end."""
        deadline = time.monotonic() + _END_SECONDS
        while (left := self._find_processes()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return left

    def _find_processes(self) -> list[str]:
        home, found = str(self.settings.home), []
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            words = (process.info["cmdline"] or []) + [(process.info["environ"] or {}).get("HEADRACE_HOME", "")]
            own = process.pid in (os.getpid(), os.getppid())
            if not own and process.info["status"] != psutil.STATUS_ZOMBIE and any(home in word for word in words):
                found.append(f"{process.pid} {' '.join(words)[:120]}")
        return found

    def wait_for_end(self) -> int:
        """The exit code of a platform that ends by itself."""
        assert self._up is not None
        return self._up.wait(LIMIT_SECONDS)

    def stop_shop(self) -> None:
        """Everything that was sent is acknowledged when it returns."""
        assert self._shop is not None
        self._shop.terminate()
        if self._shop.wait(LIMIT_SECONDS) not in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT):
            raise ChaosError(f"The shop ended with exit code {self._shop.returncode}.")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `headrace` command, as a person types it."""
        return subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False)

    def start_command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same, without waiting for its end."""
        with (self.settings.home / "commands.log").open("ab") as log:
            return subprocess.Popen(self._command(*arguments), stdout=log, stderr=log)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "jobs.cli", *arguments]

    def launch(self, job: str, tags: Mapping[str, str] | None = None) -> None:
        """Launches a job, as a person does in the UI."""
        options = ["-w", str(ROOT / "workspace.yaml"), "-j", job, "--tags", json.dumps(tags or {})]
        command = [str(Path(sys.executable).parent / "dagster"), "job", "launch", *options]
        subprocess.run(command, check=True, capture_output=True)

    def compute_reports(self) -> None:
        """Today's, in a run of the job `reports`. Raises `ChaosError` when that fails."""
        of_reports = dg.RunsFilter(job_name="reports")
        before = self.instance.get_runs_count(of_reports)
        self.launch("reports", {"dagster/partition": str(datetime.now(UTC).date())})
        self.wait_for(lambda: self.instance.get_runs_count(of_reports) > before, "the run of the reports")
        (run,) = self.instance.get_runs(of_reports, limit=1)
        self.wait_for(lambda: self._read_run(run.run_id).is_finished, "the reports are computed")
        if not (ended := self._read_run(run.run_id)).is_success:
            raise ChaosError(f"The run of the reports ended {ended.status.value}.")

    def _read_run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    # --- its parts --------------------------------------------------------------------------------------------------

    def host(self, after: str = "") -> Heartbeat | None:
        """The live host whose queries run, other than that of the run `after`."""
        report = read_report(self.instance, self.group.name)
        if report is None or report.heartbeat.run_id == after or report.heartbeat.phase != "running":
            return None
        return report.heartbeat if is_alive(report.heartbeat.process) else None

    def starting_host(self, after: str) -> Heartbeat | None:
        """A live host of a later run, as soon as it has said anything."""
        report = read_report(self.instance, self.group.name)
        if report is None or report.heartbeat.run_id == after or is_operation(report.heartbeat):
            return None
        if not is_alive(report.heartbeat.process):
            return None
        return report.heartbeat

    def await_host(self, after: str = "") -> Heartbeat:
        """Waits for the host of another run than `after`."""
        return self.wait_for(lambda: self.host(after), "a run hosts the streams")

    def await_healthy(self) -> Heartbeat:
        """Waits for a host that has committed and whose phase is RUNNING: earlier failures are forgiven."""

        def healthy() -> Heartbeat | None:
            host = self.host()
            if host is None or self.watch.phase is not Phase.RUNNING:
                return None
            return host if any(run.run_id == host.run_id and run.committed for run in self.runs()) else None

        return self.wait_for(healthy, "a run that has committed")

    def await_held(self, phase: Phase) -> None:
        """Waits until the supervisor shows this phase, and people have been told so."""
        told = len(self.webhook.messages)
        self.wait_for(lambda: self.watch.phase is phase, f"the phase {phase}")
        self.wait_for(
            lambda: any(message["state"] == phase for message in self.webhook.messages[told:]), f"a message of {phase}"
        )

    def runs(self) -> list[RunView]:
        """The group's runs, newest first."""
        return read_runs(self.instance, self.group.name, 50)

    def services(self, word: str = "") -> list[psutil.Process]:
        """The platform's own processes (not the streams' JVM) whose command line has this word."""
        assert self._up is not None
        if not psutil.pid_exists(self._up.pid):
            return []
        family = psutil.Process(self._up.pid).children(recursive=True)
        host = read_report(self.instance, self.group.name)
        streams = set() if host is None else self._descendants(host.heartbeat.process.pid)
        return [p for p in family if p.pid not in streams and word in " ".join(_command_line(p))]

    def kill_services(self) -> None:
        """kill -9 of the platform's own processes at once; the streams live on."""
        assert self._up is not None
        for process in [psutil.Process(self._up.pid), *self.services()]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with its parent
                process.kill()
        self._up.wait()

    def kill_everything(self) -> None:
        """Kills everything, as a power failure does: the platform, streams, broker and shop get no last word."""
        assert self._up is not None and self._shop is not None
        # A broker that is asked at a bad moment does not answer within a second.
        self.wait_for(lambda: self.broker.state() is not None and self.host() is not None, "broker and streams live")
        state, host = self.broker.state(), self.host()
        assert state is not None and host is not None
        roots = [self._up.pid, self._shop.pid, host.process.pid, state.guard.pid]
        members = {pid for root in roots for pid in self._descendants(root)}
        for pid in members:
            with contextlib.suppress(ProcessLookupError):  # it ended with its parent
                os.kill(pid, signal.SIGKILL)
        self._up.wait()
        self._shop.wait()

    @contextlib.contextmanager
    def crash_point(self, moment: str, table: str, what: str = "die") -> Iterator[None]:
        """A process that comes to this point in the block dies there, once, or hangs. See `inject/sitecustomize.py`."""
        order = self.settings.home / "crash_point"
        written = order.with_suffix(".new")
        written.write_text(f"{what} {moment} {table.replace('.', '/')}")
        written.rename(order)
        try:
            yield
        finally:
            order.unlink(missing_ok=True)

    def workers(self, host: Heartbeat) -> list[psutil.Process]:
        """Spark's Python processes."""
        assert host.jvm is not None
        return [p for p in psutil.Process(host.jvm.pid).children(recursive=True) if "python" in p.name()]

    def lock_database(self, seconds: float) -> None:
        """Nobody can read or write Dagster's run storage, heartbeats included, for `seconds`."""
        with sqlite3.connect(self.settings.dagster_home / "history" / "runs.db", isolation_level=None) as database:
            database.execute("begin exclusive")
            time.sleep(seconds)
            database.execute("rollback")

    @staticmethod
    def _descendants(pid: int) -> set[int]:
        try:
            return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        except psutil.NoSuchProcess:
            return set()

    # --- what it has read -----------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], T | None], what: str, limit_seconds: float = LIMIT_SECONDS) -> T:
        """The condition's first true value. Raises `ChaosError` after the limit."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(POLL_SECONDS)
        raise ChaosError(f"not within {limit_seconds:g} s: {what}")

    def await_read_through(self) -> None:
        """Waits until every stream over silver.events has read all that it has now."""
        newest = self.tables.open("silver.events").version()
        self.wait_for(
            lambda: self.tables.is_read_through(newest), "every stream has read silver.events", _READ_THROUGH_SECONDS
        )

    def read_ends(self) -> dict[int, int]:
        """The next record's offset in each Kafka partition."""
        with KafkaResource.from_settings(self.settings) as kafka:
            return kafka.end_offsets(self.settings.topic)

    def read_balance(self) -> tuple[int, int, int]:
        """How many records Kafka holds, how many of them are in no table, how many in more than one place."""
        return self.tables.read_balance(self.read_ends())


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
