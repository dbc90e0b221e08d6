"""What the live measurements share: a group of queries on a broker of its own, and the simulated shop beside it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from jobs.stream_context import build_stream_context
from resources.embedded_broker import running_broker
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark import SparkResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# Options of a shop that sends each event once, at its time, and nothing else.
CLEAN = ("--late", "0", "--duplicates", "0", "--malformed", "0", "--habit", "out_of_order=0")
POLL_SECONDS = 0.5
STOP_SECONDS = 60.0


class LiveGroup(Protocol):
    """Queries of one Spark application: the platform's `QueryGroup`, or what it is compared with."""

    def start(self) -> None:
        """Once."""

    def failure(self) -> Exception | None:
        """Why the first query died; None while all are well."""

    def stop(self, grace_seconds: float) -> None:
        """Ends the queries, after the batches in flight if they end within the grace."""


Group = TypeVar("Group", bound=LiveGroup)


@contextlib.contextmanager
def running_group(settings: Settings, build: Callable[[SparkSession, StreamContext], Group]) -> Iterator[Group]:
    """The group, started, for the block; at its end group, JVM and broker are gone, whatever happened."""
    lakehouse = LakehouseResource.from_settings(settings)
    with running_broker(settings), SparkResource.from_settings(settings, "benchmark").running() as session:
        with KafkaResource.from_settings(settings) as kafka:
            context = build_stream_context(settings, kafka, lakehouse)
        group = build(session, context)
        try:
            group.start()
            yield group
        finally:
            group.stop(STOP_SECONDS)


@contextlib.contextmanager
def running_shop(settings: Settings, rate: int, *options: str) -> Iterator[None]:
    """For the block, a process sends `rate` records a second to the settings' broker; it begins within seconds."""
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", str(rate), "--seed", "1", "--quiet", *options]
    with KafkaResource.from_settings(settings) as kafka:
        servers = kafka.servers()
    environment = {"HEADRACE_HOME": str(settings.home), "KAFKA_BOOTSTRAP_SERVERS": servers, "PATH": ""}
    shop = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        end_process(shop, 30.0)


def pass_time(group: LiveGroup, seconds: float) -> None:
    """Waits. Raises what ended a query."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if (failure := group.failure()) is not None:
            raise failure
        time.sleep(min(POLL_SECONDS, left))


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
