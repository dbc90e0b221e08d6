"""`headrace demo`: the whole platform, from a simulated day to checked results, and then stopped."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobs.platform import fraud_demonstration
from jobs.platform.checks_run import run_checks
from jobs.platform.fraud_demonstration import HISTORY_OPTIONS, FraudDemonstration, has_scoring
from jobs.platform.platform_progress import PlatformProgress
from jobs.platform.reports_run import compute_days
from jobs.platform.results import print_results
from jobs.platform.services import Services, list_batch_runs, prepare_environment, running_platform
from jobs.platform.simulated_streams import select_senders, select_simulated, sending, start_simulator
from platform_assets.errors import InterruptedByUserError, NotReadyError, RunFailedError, ServiceEndedError
from platform_assets.streaming.stream_spec import Stream
from platform_assets.streams import load_stream_groups, load_streams
from resources.settings import Settings
from resources.spark.configuration import for_minutes

HISTORY_HOURS = 26
HISTORY_RATE = "0.6"
SEED = "7"
LIVE_RATE = "50"
# With the default's minute the demonstration would wait for it; each round takes some seconds of a core.
UPKEEP_SECONDS = "10"
# A look at Dagster's storage costs 50 ms of a core that the streams and reports need.
POLL_SECONDS = 1.0
# Each step takes 5-130 s on two cores; the limit turns a hang into a message. A machine that is busy or small takes as
# long as it takes, while something moves.
STILL_LIMIT_SECONDS = 600.0


def run_demo(settings: Settings, stop: threading.Event, console: Console) -> int:
    """Runs the demonstration to its end. Returns 0 when every asset is there and every check passed."""
    started = time.monotonic()
    console.rule("Headrace demo")
    # For this process, which runs the checks, and for all that it starts.
    os.environ["HEADRACE_SPARK_CONF"] = json.dumps(for_minutes(settings.spark_conf))
    os.environ["HEADRACE_UPKEEP_SECONDS"] = UPKEEP_SECONDS
    with running_platform(settings) as services:
        sent = select_simulated(load_streams())
        fraud = FraudDemonstration(settings) if has_scoring(load_stream_groups()) else None
        demo, counts = _Demo(settings, services, stop, console), PlatformProgress(settings, sent)
        demo.say("Kafka and Dagster's daemon are up; the supervisor starts the streams")
        for stream in select_senders(sent):
            if fraud is not None and stream.name == "transactions":
                demo.send(stream, "--hours", fraud_demonstration.HISTORY_HOURS, "--seed", SEED, *HISTORY_OPTIONS)
            else:
                demo.send(stream, "--hours", str(HISTORY_HOURS), "--rate", HISTORY_RATE, "--seed", SEED)
        history = counts.read_ends()
        demo.say("A seeded history is in Kafka")
        # Nothing else runs until the history is read: whatever could come after it would take the same two cores.
        demo.wait_for("the history to be read", lambda: counts.committed(history))
        demo.wait_for("the streams to write their tables", counts.streams)
        if fraud is not None:
            with demo.moving("Training a fraud model"):
                said = fraud.train()
            demo.say(said)
        with ExitStack() as senders:
            for stream in select_senders(sent):
                senders.enter_context(demo.sending(stream))
            # Sessions of the history are closed by what comes after it: reports before that would have none.
            demo.wait_for("each stream to say how far its table is final", counts.final)
            demo.compute_reports()
            if fraud is not None:
                demo.wait_for("a score by the model", fraud.count_scores)
                demo.wait_for("alerts", fraud.count_alerts)
                for line in fraud.explain_alert():
                    console.print(f"        {line}", highlight=False)
                with demo.moving("Training the fraud model once more"):
                    said = fraud.train()
                demo.say(said)
                demo.say(fraud.swap())
                demo.say(fraud.write_page())
        demo.wait_for("the last live events to be read", counts.records)
        demo.demand("reports with rows", counts.reports)
        passed = demo.run_checks()
        print_results(settings, console)
        # A run of the hourly checks that is cut off would leave them without a verdict in the UI.
        demo.wait_for("the scheduled runs to end", count_scheduled_runs)
        demo.say("Stopping: batches in flight are finished first")
    console.print(f"\nEverything is stopped again. It took {time.monotonic() - started:.0f} s.")
    console.print(f"The tables stay in {settings.lakehouse}. See them in the UI: [bold]make dev[/bold], then")
    console.print(f"http://127.0.0.1:{settings.ui_port} - assets, checks, and the running sensor stream_supervisor.")
    return 0 if passed else 1


def count_scheduled_runs() -> tuple[int, int]:
    """How many of the batch runs that the daemon started have ended, of how many: those that are at work."""
    with dg.DagsterInstance.get() as instance:
        return 0, len(list_batch_runs(instance))


class _Demo:
    """What the demonstration does, and how it shows that."""

    def __init__(self, settings: Settings, services: Services, stop: threading.Event, console: Console) -> None:
        self._settings = settings
        self._services = services
        self._stop = stop
        self._console = console
        self._environment = prepare_environment(settings)
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.0f} s[/dim]  {text}", highlight=False)

    def send(self, stream: Stream, *options: str) -> None:
        """Runs the simulator for the topic of this stream to its end."""
        with self.moving("Sending a history"):
            sender = start_simulator(stream, *options, environment=self._environment)
            self._wait_for_end(sender)
        if sender.returncode != 0:
            raise ServiceEndedError(
                f"The simulator of {stream.name} ended with exit code {sender.returncode}; see the lines above."
            )

    @contextmanager
    def sending(self, stream: Stream) -> Iterator[None]:
        """Lets the simulator send live records to the topic of this stream for the length of the block."""
        options: tuple[str, ...] = ()
        rate = LIVE_RATE
        if stream.name == "transactions":
            options, rate = fraud_demonstration.LIVE_OPTIONS, fraud_demonstration.LIVE_RATE
        with sending(stream, "--rate", rate, "--seed", SEED + "1", *options, environment=self._environment):
            self.say(f"Live records are sent for the stream {stream.name}: {rate} a second")
            yield

    def wait_for(self, what: str, count: Callable[[], tuple[int, int]]) -> None:
        """Waits, with a display, until all is done. Raises when a service ends, or nothing moves for too long."""
        moved_at, before = time.monotonic(), None
        with self.moving(f"Waiting for {what}") as show:
            while (counted := count())[0] < counted[1]:
                show(*counted)
                if counted != before:
                    moved_at, before = time.monotonic(), counted
                self._services.check()
                self._stop.wait(POLL_SECONDS)
                self.obey_stop()
                if time.monotonic() - moved_at > STILL_LIMIT_SECONDS:
                    raise NotReadyError(
                        f"Waited for {what}: {counted[0]:,} of {counted[1]:,}, and nothing has moved for "
                        f"{STILL_LIMIT_SECONDS:.0f} s. The logs in {self._settings.home}/logs and the run's page "
                        "(make dev) say why."
                    )
        self.say(f"Done: {what}")

    @contextmanager
    def moving(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A line that moves until the block ends; what it gives takes how much is done, of how much."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        hidden = not self._console.is_terminal
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True, disable=hidden) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def compute_reports(self) -> None:
        """Computes the reports of yesterday and today in one run, in this process, as a backfill does."""
        today = datetime.now(UTC).date()
        yesterday = today - timedelta(days=1)
        with self.moving("Computing the reports"), dg.DagsterInstance.get() as instance:
            succeeded = compute_days(instance, yesterday, today)
        self.obey_stop()
        if not succeeded:
            raise RunFailedError("The run of the reports failed; its page (make dev) says why.")
        self.say(f"The reports of {yesterday} and {today} are computed")

    def demand(self, what: str, count: Callable[[], tuple[int, int]]) -> None:
        """Raises unless all are there."""
        done, total = count()
        if done < total:
            raise NotReadyError(f"There are {done} of {total} {what}. The tables are in {self._settings.lakehouse}.")

    def run_checks(self) -> bool:
        """Runs every asset check and prints the verdicts; returns whether all passed."""
        with self.moving("Running the asset checks"):
            passed = run_checks(self._console)
        self.obey_stop()
        return passed

    def obey_stop(self) -> None:
        """Raises `InterruptedByUserError` once somebody wants the demonstration to end."""
        if self._stop.is_set():
            raise InterruptedByUserError("stopped")

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        """Waits until the process has ended; ends it when the demonstration is to stop."""
        while process.poll() is None:
            if self._stop.wait(POLL_SECONDS / 5):
                process.terminate()
                process.wait(30)
                self.obey_stop()
