"""`headrace drain` and `headrace check`, as a person or a pipeline calls them: each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.operations.drain import EXIT_DONE
from jobs.supervision.group_lock import read_lock
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.replayed_streams import build_events
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.supervised_platform import OUTPUT_TABLES, ROOT
from tests.short_lived_jvm import ENVIRONMENT
from tests.spark.streams_over_table import in_order
from tests.spark.test_streams_over_events import STREAMS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RECORDS = [*build_events(range(100)), *build_events(range(5)), b"not JSON"]


@dataclass(frozen=True)
class Commands:
    """A home, a lakehouse and a topic of one's own, and the commands over them."""

    home: Path
    lakehouse: Path
    topic: str
    bootstrap_servers: str

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        own = {"HEADRACE_HOME": self.home, "HEADRACE_LAKEHOUSE": self.lakehouse, "HEADRACE_TOPIC": self.topic}
        environment = {name: str(value) for name, value in own.items()}
        environment |= {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, **ENVIRONMENT}
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", command],
            cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def table(self, name: str) -> pa.Table:
        return DeltaTable(str(Path(self.lakehouse, *name.split(".")))).to_pyarrow_table()


@pytest.fixture
def sent(broker: BrokerState, kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> Commands:
    """Two hours of a shop, of which some records came twice and one is broken. Nobody has read them."""
    commands = Commands(tmp_path / "home", tmp_path / "lakehouse", topic(1), broker.bootstrap_servers)
    producer = kafka.producer()
    for value in RECORDS:
        producer.produce(commands.topic, value)
    assert producer.flush(30) == 0
    return commands


def test_every_stream_catches_up_and_then_all_stops(sent: Commands) -> None:
    drained = sent.run("drain")
    assert drained.returncode == EXIT_DONE, drained.stderr
    assert not read_lock(sent.home, "clickstream").held
    offsets = Counter(offset for name in OUTPUT_TABLES for offset in sent.table(name)["kafka_offset"].to_pylist())
    assert offsets == Counter(range(len(RECORDS)))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("events", DeltaTable(str(sent.lakehouse / "silver" / "events")).to_pyarrow_dataset())
        for name, stream in STREAMS.items():
            rows, oracle = (
                in_order(stream, found.to_pylist())
                for found in (sent.table(stream.main_table.name), connection.sql(stream.rule or "").to_arrow_table())
            )
            # What is open has no row yet. Nobody has spent more than a hundred.
            assert bool(rows) == (name != "high_value_users") and all(row in oracle for row in rows), name


@pytest.mark.long
def test_the_checks_pass_but_for_the_table_that_was_damaged_and_the_exit_code_says_so(
    sent: Commands, spark: SparkSession, kafka: KafkaResource
) -> None:
    lakehouse, settings = LakehouseResource(root=str(sent.lakehouse)), Settings(home=sent.home)
    StreamsUnderTest.build(spark, kafka, lakehouse, settings, sent.topic).drain()
    DeltaTable(str(sent.lakehouse / "gold" / "sessions")).delete("user_id = 'u1'")
    checked = sent.run("check")
    failed = [line for line in checked.stdout.splitlines() if "FAILED" in line]
    assert checked.returncode == 1 and [line for line in failed if "parity" in line], checked.stdout + checked.stderr
    assert all("gold.sessions" in line for line in failed) and "passed" in checked.stdout
