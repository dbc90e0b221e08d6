"""One user id with thousands of views and purchases within minutes: the pairs of one batch, and who reads them.

Measured are, each as the command that an operator calls, with Spark's default heap: the first `headrace drain`, another
after more purchases of the same user that are late (their repair), and `headrace check`. Of each the seconds, the peak
of resident memory of Spark's JVM and of the command's own process.
Run: `make bench ARGS=busy_user` (about five minutes; 2 GB of disk).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from deltalake import DeltaTable

from benchmarks.own_environment import without_settings
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings

USER = "user-shared"
SAMPLE_SECONDS = 0.2
_MIB = 1024 * 1024


def main() -> None:
    """Sends the events, runs the commands, prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4_000)
    parser.add_argument("--purchases", type=int, default=2_000)
    parser.add_argument("--late", type=int, default=100, help="purchases that are sent after the first drain")
    args = parser.parse_args()
    began = time.time() - 3 * 3600
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        settings = Settings(home=Path(home), kafka_bootstrap_servers="")
        with running_broker(settings):
            send(settings, [*build_views(args.views, began), *build_purchases(args.purchases, began, "p")])
            measure(settings, "drain", "--close-windows")
            print(f"{count_pairs(settings):,} pairs", flush=True)
            send(settings, build_purchases(args.late, began, "late"))
            measure(settings, "drain", "--close-windows")
            print(f"{count_pairs(settings):,} pairs", flush=True)
            measure(settings, "check")


def build_views(count: int, began: float) -> Iterator[dict[str, Any]]:
    """Over twenty minutes."""
    return (build_event(f"v{n}", "page_view", began + 1200 * n / count) for n in range(count))


def build_purchases(count: int, began: float, name: str) -> Iterator[dict[str, Any]]:
    """Within the five minutes after the views."""
    return (build_event(f"{name}{n}", "purchase", began + 1200 + 300 * n / count) for n in range(count))


def build_event(event_id: str, kind: str, at: float) -> dict[str, Any]:
    """An event of the busy user, of the one product."""
    return {
        "event_id": event_id, "event_type": kind, "user_id": USER, "product_id": "p1", "price": 4.0, "quantity": 1,
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds"), "revenue": 4.0,
    }  # fmt: skip


def send(settings: Settings, events: list[dict[str, Any]] | Iterator[dict[str, Any]]) -> None:
    """Sends the events."""
    with KafkaResource.from_settings(settings) as kafka:
        ensure_topic(kafka, settings.topic, settings.topic_partitions)
        producer = kafka.producer()
        for event in events:
            producer.produce(settings.topic, json.dumps(event), event["user_id"])
        if producer.flush(60):
            raise SystemExit("The broker did not take all records.")


def measure(settings: Settings, *command: str) -> None:
    """Runs the command and prints what it took. Its own words follow where it fails."""
    environment = without_settings() | {"HEADRACE_HOME": str(settings.home)}
    log, began = settings.home / "command.log", time.monotonic()
    peaks = {"Spark's JVM": 0, "the command's process": 0}
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-m", "jobs.cli", *command], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            for name, size in _read_sizes(process):
                peaks[name] = max(peaks[name], size)
            time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - began
    said = ", ".join(f"{name} {peak // _MIB:,} MiB" for name, peak in peaks.items())
    print(f"headrace {' '.join(command)}: exit {process.returncode} after {seconds:.0f} s; {said}", flush=True)
    if process.returncode:
        print(log.read_text(), flush=True)


def _read_sizes(process: psutil.Process) -> Iterator[tuple[str, int]]:
    for found in (process, *process.children(recursive=True)):
        try:
            is_spark = any("org.apache.spark" in part for part in found.cmdline())
            # What the JVM starts is, until it has begun, a copy of it.
            if is_spark or found == process:
                yield "Spark's JVM" if is_spark else "the command's process", found.memory_info().rss
        except psutil.Error:  # ended since it was listed
            continue


def count_pairs(settings: Settings) -> int:
    """Rows of the table, by its log."""
    actions = DeltaTable(f"{settings.lakehouse}/gold/view_to_purchase").get_add_actions(flatten=True)
    return sum(actions.column("num_records").to_pylist())


if __name__ == "__main__":
    main()
