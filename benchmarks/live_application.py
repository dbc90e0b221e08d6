"""What the live measurements share: a group of queries on a broker of its own, and the simulated shop."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from jobs.supervision.stream_context import build_stream_context
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource
from resources.stop_signals import StopSignals

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.stream_spec import Stream

# Options of a shop that sends each event once, at its time, and nothing else.
CLEAN = ("--late", "0", "--duplicates", "0", "--malformed", "0", "--habit", "out_of_order=0")
POLL_SECONDS = 0.5
STOP_SECONDS = 60.0


class LiveGroup(Protocol):
    """Queries of one Spark application: the platform's `QueryGroup`, or what it is compared with."""

    def start(self) -> None:
        """Starts the queries; call it once."""

    def reconcile(self) -> None:
        """Called often: starts what is not started yet."""

    def failure(self) -> Exception | None:
        """Why the first query died; None while all are well."""

    def stop(self, grace_seconds: float) -> None:
        """Ends the queries, after the batches in flight if they end within the grace."""


class LiveRun:
    """A group that runs, and the session that knows its queries: `SparkSession.active()` may be another one."""

    def __init__(self, session: SparkSession, group: LiveGroup, stop: threading.Event) -> None:
        self.session = session
        self._group = group
        self._stop = stop

    def pass_time(self, seconds: float) -> None:
        """Waits. Raises what ended a query, and `SystemExit` after a SIGINT or SIGTERM."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if (failure := self._group.failure()) is not None:
                raise failure
            self._group.reconcile()
            if self._stop.wait(min(POLL_SECONDS, left)):
                sys.exit("Stopped.")


@contextlib.contextmanager
def running_group(
    settings: Settings,
    streams: Sequence[Stream],
    build: Callable[[SparkSession, Sequence[Stream], StreamContext], LiveGroup],
) -> Iterator[LiveRun]:
    """The group of these streams, started, for the block; at its end group, JVM and broker are gone.

    Signals wait for the next `pass_time`: an exception in the midst of a call to the JVM leaves its answer unread, and
    the calls that stop the group would take it for theirs.
    """
    lakehouse = LakehouseResource.from_settings(settings)
    spark = SparkResource.from_settings(settings, "benchmark")
    with StopSignals() as stop, running_broker(settings), spark.running() as session:
        with KafkaResource.from_settings(settings) as kafka:
            context = build_stream_context(settings, kafka, lakehouse, streams)
        group = build(session, streams, context)
        try:
            group.start()
            yield LiveRun(session, group, stop.received)
        finally:
            group.stop(STOP_SECONDS)


@contextlib.contextmanager
def running_shop(settings: Settings, rate: int, *options: str) -> Iterator[None]:
    """Runs a process that sends `rate` records a second to the settings' broker; it begins within seconds.

    Raises `RuntimeError` at the block's end if the process ended before.
    """
    shop = _start_shop(settings, "--rate", str(rate), *options)
    try:
        yield
        if shop.poll() is not None:
            raise RuntimeError("The simulated shop ended before the measurement did.")
    finally:
        end_process(shop, 30.0)


def send_history(settings: Settings, minutes: float, rate: int) -> None:
    """Sends what the shop would have sent in the last `minutes`, as fast as it can. Raises `RuntimeError`."""
    count = round(minutes * 60 * rate)
    shop = _start_shop(settings, "--hours", str(minutes / 60), "--count", str(count))
    if shop.wait() != 0:
        raise RuntimeError("The simulated shop could not send its history.")


def _start_shop(settings: Settings, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--seed", "1", "--quiet", *options]
    with KafkaResource.from_settings(settings) as kafka:
        ensure_topic(kafka, settings.topic, settings.topic_partitions)
        servers = kafka.servers()
    environment = {"HEADRACE_HOME": str(settings.home), "KAFKA_BOOTSTRAP_SERVERS": servers, "PATH": ""}
    return subprocess.Popen(command, env=environment)


def end_process(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """SIGTERM, and after the grace SIGKILL, to exactly this process; nothing if it has ended."""
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exit_on_sigterm() -> None:
    """Lets a SIGTERM end this process as Ctrl-C does: through all `finally`, so that nothing stays behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
