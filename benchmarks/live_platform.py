"""What measurements of the whole platform share: a fresh home, a live shop, and waiting for what it does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from benchmarks.live_application import end_process
from jobs.platform.services import running_platform
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings, load_settings

LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.05

T = TypeVar("T")


def run_in_fresh_home(module: str) -> None:
    """Runs the module again with `--home` added, in a home that is gone afterwards, and exits with its exit code.

    The settings of that process, and of all that it starts, come from an environment with nothing of ours in it.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        environment = {"HEADRACE_HOME": home, "PATH": "/usr/bin:/bin"}
        measured = subprocess.Popen([sys.executable, "-m", module, "--home", home, *sys.argv[1:]], env=environment)
        signal.signal(signal.SIGTERM, lambda *_: measured.terminate())
        sys.exit(measured.wait())


@contextlib.contextmanager
def running_platform_and_shop(rate: str) -> Iterator[Settings]:
    """Runs the platform of this process's settings, and a shop that sends `rate` events a second, during the block.

    A SIGTERM ends both, as an interrupt does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))
    settings = load_settings()
    with running_platform(settings):
        with KafkaResource.from_settings(settings) as kafka:
            ensure_topic(kafka, settings.topic, settings.topic_partitions)
        command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", rate, "--seed", "1", "--quiet"]
        shop = subprocess.Popen(command, start_new_session=True)
        try:
            yield settings
        finally:
            end_process(shop, 30.0)


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """The condition's first true value. Exits after the limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"Waited {LIMIT_SECONDS:.0f} s in vain for {what}.")
