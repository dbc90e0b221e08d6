"""`headrace demo`: the whole platform, from a simulated day to checked results, and then stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from rich.console import Console

from jobs.platform.checks_run import run_checks
from jobs.platform.results import print_results
from jobs.platform.services import WORKSPACE, Services, prepare_environment, running_platform
from jobs.report_schedules import reports_job
from platform_assets.errors import InterruptedByUserError, QueryFailedError
from platform_assets.reports import REPORT_TABLES
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

HISTORY_HOURS = 26
HISTORY_RATE = "0.6"
SEED = "7"
LIVE_RATE = "50"
# A look at Dagster's storage costs 50 ms of a core that the streams and reports need.
POLL_SECONDS = 1.5
# Each step takes 10-120 s on two cores; the limit turns a hang into a message.
STEP_LIMIT_SECONDS = 360.0


def run_demo(settings: Settings, stop: threading.Event, console: Console) -> int:
    """Runs the demonstration to its end. Returns 0 when every asset is there and every check passed."""
    started = time.monotonic()
    console.rule("Headrace demo")
    with running_platform(settings) as services:
        demo = _Demo(settings, services, stop, console)
        demo.say("Kafka and Dagster's daemon are up; the supervisor starts the streams")
        demo.send("--hours", str(HISTORY_HOURS), "--rate", HISTORY_RATE, "--seed", SEED)
        demo.say(f"A seeded history of {HISTORY_HOURS} hours is in Kafka")
        shop = demo.open_shop()
        try:
            demo.wait_for("the streams to write their tables", demo.streams_have_written)
            demo.wait_for("the history to be read", demo.has_read_history)
            demo.launch_reports()
            demo.wait_for("the reports, materialized by the daemon", demo.reports_are_there)
        finally:
            shop.terminate()
            shop.wait(30)
        demo.wait_for("the last live events to be read", demo.has_read_everything)
        passed = run_checks(console)
        print_results(settings, console)
    console.print(f"\nEverything is stopped again. It took {time.monotonic() - started:.0f} s.")
    console.print(f"The tables stay in {settings.lakehouse}. See them in the UI: [bold]make dev[/bold], then")
    console.print(f"http://127.0.0.1:{settings.ui_port} - assets, checks, and the running sensor stream_supervisor.")
    return 0 if passed else 1


class _Demo:
    def __init__(self, settings: Settings, services: Services, stop: threading.Event, console: Console) -> None:
        self._settings = settings
        self._services = services
        self._stop = stop
        self._console = console
        self._lakehouse = LakehouseResource.from_settings(settings)
        self._environment = prepare_environment(settings)
        self._since = time.time()
        self._history_end: dict[int, int] = {}
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.0f} s[/dim]  {text}", highlight=False)

    def send(self, *options: str) -> None:
        """Runs the simulator to its end."""
        sender = self._simulate(*options)
        self._wait_for_end(sender)
        if sender.returncode != 0:
            raise QueryFailedError(f"The simulated shop ended with exit code {sender.returncode}; see the lines above.")
        with KafkaResource.from_settings(self._settings) as kafka:
            self._history_end = kafka.end_offsets(self._settings.topic)

    def open_shop(self) -> subprocess.Popen[bytes]:
        """Lets the simulated shop send live events until it is terminated."""
        shop = self._simulate("--rate", LIVE_RATE, "--seed", SEED + "1", "--quiet")
        self.say(f"The shop is open: {LIVE_RATE} live events a second")
        return shop

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Waits, with a display, until the condition holds. Raises when a service ends or the limit is over."""
        deadline = time.monotonic() + STEP_LIMIT_SECONDS
        with self._console.status(f"Waiting for {what}"):
            while not condition():
                self._services.check()
                if self._stop.wait(POLL_SECONDS):
                    raise InterruptedByUserError("stopped")
                if time.monotonic() > deadline:
                    raise QueryFailedError(
                        f"Waited {STEP_LIMIT_SECONDS:.0f} s in vain for {what}. The logs in {self._settings.home}/logs "
                        "and the run's page (make dev) say why."
                    )
        self.say(f"Done: {what}")

    def streams_have_written(self) -> bool:
        """Every stream's tables have a materialization of this run of the demonstration."""
        return self._are_materialized([t.asset_path for s in load_streams() for t in s.tables[:1]])

    def reports_are_there(self) -> bool:
        """Every report is materialized; raises when their run has failed."""
        with dg.DagsterInstance.get() as instance:
            runs = instance.get_runs(dg.RunsFilter(job_name=reports_job.name), limit=1)
        if runs and runs[0].status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            raise QueryFailedError(
                f"The run of the reports ended {runs[0].status.value}; its page (make dev) says why."
            )
        finished = bool(runs) and runs[0].status == dg.DagsterRunStatus.SUCCESS
        return finished and self._are_materialized([t.asset_path for t in REPORT_TABLES])

    def has_read_history(self) -> bool:
        """The stream `events` has committed every offset of the history."""
        return self._has_committed(self._history_end)

    def has_read_everything(self) -> bool:
        """The stream `events` has committed all that Kafka holds now, and the ledger's projection exists."""
        with KafkaResource.from_settings(self._settings) as kafka:
            ends = kafka.end_offsets(self._settings.topic, committed=True)
        return self._has_committed(ends) and self._lakehouse.delta_table("platform.ledger").version() > 0

    def launch_reports(self) -> None:
        """Asks the daemon for the reports of yesterday and today in one run, as a backfill does."""
        today = datetime.now(UTC).date()
        days = {"start": str(today - timedelta(days=1)), "end": str(today)}
        tags = ", ".join(f'"dagster/asset_partition_range_{name}": "{day}"' for name, day in days.items())
        command = [Path(sys.executable).parent / "dagster", "job", "launch", "-w", WORKSPACE, "-j", reports_job.name]
        log = self._services.log_path("launch-reports")
        with log.open("wb") as output:
            launch = subprocess.Popen(
                [*map(str, command), "--tags", f"{{{tags}}}"],
                env=self._environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._wait_for_end(launch)
        if launch.returncode != 0:
            raise QueryFailedError(f"The reports could not be launched; {log} says why.")
        self.say(f"The reports of {days['start']} and {days['end']} are queued for the daemon")

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        """Until the process has ended; ends it when the demonstration is to stop."""
        while process.poll() is None:
            if self._stop.wait(POLL_SECONDS):
                process.terminate()
                process.wait(30)
                raise InterruptedByUserError("stopped")

    def _simulate(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jobs.cli", "simulate", *options]
        return subprocess.Popen(command, env=self._environment, start_new_session=True)

    def _are_materialized(self, paths: list[tuple[str, str]]) -> bool:
        with dg.DagsterInstance.get() as instance:
            for path in paths:
                found = instance.get_latest_materialization_event(dg.AssetKey(path))
                if found is None or found.timestamp < self._since:
                    return False
        return True

    def _has_committed(self, ends: dict[int, int]) -> bool:
        from platform_assets.checks.freshness import read_committed_offsets

        committed = read_committed_offsets(self._lakehouse.delta_table("silver.events"))
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())
