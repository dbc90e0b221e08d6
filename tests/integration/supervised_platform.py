"""A daemon that supervises the stream `events` over a home, a topic and a lakehouse of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from jobs.supervision.lease import read_report
from jobs.supervision.model import Heartbeat, RunView
from jobs.supervision.run_records import read_runs
from resources.kafka import KafkaResource
from resources.processes import is_alive
from resources.settings import Settings
from tests.integration.streaming_definitions import GROUP

ROOT = Path(__file__).parents[2]
OUTPUT_TABLES = ("silver.events", "silver.quarantined_events", "silver.deduplicated_events")
# A JVM start during another test's on two cores took two minutes; what is waited for is a condition, never this time.
LIMIT_SECONDS = 300.0

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """The condition's first true value; fails, naming it, when there is none within the limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"not within {LIMIT_SECONDS:g} s: {what}")


@dataclass
class Platform:
    """A home, a topic and a lakehouse of one's own, and a daemon that supervises them."""

    settings: Settings
    kafka: KafkaResource
    instance: dg.DagsterInstance
    environment: dict[str, str]

    def start_daemon(self, module: str = "tests.integration.streaming_definitions") -> subprocess.Popen[bytes]:
        command = [
            str(Path(sys.executable).parent / "dagster-daemon"),
            "run",
            "-m",
            module,
        ]
        log = (self.settings.home / "daemon.log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def drain(self) -> subprocess.CompletedProcess[str]:
        """The command as a person runs it: a process of its own, like the Spark application that it starts."""
        command = [sys.executable, "-m", "jobs.cli", "drain"]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def runs(self) -> list[RunView]:
        return read_runs(self.instance, GROUP.name, 50)

    def running_host(self, after: str = "", group: str = GROUP.name) -> Heartbeat | None:
        """The heartbeat of a live host, other than that of the run `after`, whose queries run."""
        report = read_report(self.instance, group)
        if report is None or report.heartbeat.run_id == after or report.heartbeat.phase != "running":
            return None
        return report.heartbeat if is_alive(report.heartbeat.process) else None

    def is_caught_up(self) -> bool:
        return len(self.coordinates()) >= sum(self.kafka.end_offsets(self.settings.topic).values())

    def coordinates(self) -> list[tuple[int, int]]:
        """The coordinates of each written record, over all output tables, read by another engine than the writer."""
        found: list[tuple[int, int]] = []
        for name in OUTPUT_TABLES:
            path = Path(self.settings.lakehouse, *name.split("."))
            try:
                columns = ["kafka_partition", "kafka_offset"]
                rows = DeltaTable(str(path)).to_pyarrow_table(columns=columns).to_pylist()
            except TableNotFoundError:
                continue
            found += [(row["kafka_partition"], row["kafka_offset"]) for row in rows]
        return found

    def prove_complete(self) -> None:
        """Every offset that Kafka holds is in exactly one row of one table."""
        counts = Counter(self.coordinates())
        assert [place for place, count in counts.items() if count > 1] == []
        ends = self.kafka.end_offsets(self.settings.topic)
        assert set(counts) == {(partition, offset) for partition, end in ends.items() for offset in range(end)}
