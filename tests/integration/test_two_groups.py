"""Two groups, each a Spark application of its own, write one lakehouse at once: each account is as if it were alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from jobs.operations.drain import EXIT_DONE, EXIT_FAILED
from platform_assets.checks.hop_ledger import build_hop_ledger_checks
from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.tables.platform import PLATFORM_TABLES
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from tests.integration.second_topic import ORDERS_TOPIC, build_groups
from tests.integration.supervised_platform import ROOT
from tests.integration.test_watermarks import MINUTE, purchase
from tests.short_lived_jvm import ENVIRONMENT

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)


@dataclass(frozen=True)
class TwoGroups:
    """A home, a lakehouse and two topics of one's own."""

    home: Path
    kafka: KafkaResource
    bootstrap_servers: str
    topics: dict[str, str]

    @property
    def groups(self) -> tuple[StreamGroup, StreamGroup]:
        return build_groups(self.topics["orders"])

    @property
    def lakehouse(self) -> LakehouseResource:
        return LakehouseResource(root=str(self.home / "lakehouse"))

    def send(self, name: str, values: Sequence[bytes]) -> None:
        producer = self.kafka.producer()
        for number, value in enumerate(values):
            producer.produce(self.topics[name], value, partition=number % 2)
        assert producer.flush(30) == 0

    def drain_well(self) -> None:
        """Drains both groups at once, to their end."""
        for code, said in self.drain():
            assert code == EXIT_DONE, said[-6000:]

    def drain(self) -> list[tuple[int, str]]:
        """Drains both groups at once; returns the exit codes and what was said."""
        own = {
            "HEADRACE_HOME": str(self.home),
            "HEADRACE_TOPIC": self.topics["events"],
            ORDERS_TOPIC: self.topics["orders"],
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "HEADRACE_MAX_OFFSETS_PER_TRIGGER": "40",
            "HEADRACE_SPARK_HEAP_MIB": "768",
            **ENVIRONMENT,
        }

        def start(group: StreamGroup) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.integration.second_topic", group.name], cwd=ROOT,
                env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

        processes = [start(group) for group in self.groups]
        said = [process.communicate()[0] for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]

    def count(self, table: str) -> Counter[str]:
        rows = DeltaTable(self.lakehouse.table_uri(table)).to_pyarrow_table()
        return Counter(rows["query"].to_pylist())

    def prove_sound(self) -> None:
        for group in self.groups:
            for stream in group.ingest:
                audit = audit_stream(stream, self.lakehouse, self.kafka)
                assert audit.breaches == (), stream.name
                ends = self.kafka.end_offsets(self.topics[stream.name])
                assert audit.totals["rows_in"] == sum(ends.values()), stream.name
            for check in build_hop_ledger_checks(group.derived):
                verdict: Any = check(dg.build_asset_check_context(resources={"lakehouse": self.lakehouse}))
                assert verdict.passed, verdict.description


@pytest.fixture
def two(tmp_path: Path, broker: BrokerState, kafka: KafkaResource, topic: Callable[..., str]) -> TwoGroups:
    topics = {"events": topic(2), "orders": topic(2)}
    return TwoGroups(tmp_path / "home", kafka, broker.bootstrap_servers, topics)


@pytest.mark.release
def test_two_groups_write_the_shared_tables_at_once_and_each_account_is_whole(two: TwoGroups) -> None:
    # The same ids in both topics: what is a repetition is said by the topic's own table.
    for name, first in (("events", 0), ("orders", 50)):
        values = [purchase(n, NOW + n * MINUTE) for n in range(first, first + 200)]
        two.send(name, [*values, *values[:10], b"not JSON"])
    two.drain_well()
    two.prove_sound()
    for name in ("events", "orders"):
        # Late for every window, and repaired at the end.
        late = [purchase(1000 + n, NOW + n * MINUTE, user_id="late") for n in range(20)]
        two.send(name, [*late, *(purchase(2000 + n, NOW + timedelta(hours=5, minutes=n)) for n in range(60))])
    two.drain_well()
    two.prove_sound()

    streams = [stream for group in two.groups for stream in group.streams]
    derived = [stream.name for group in two.groups for stream in group.derived]
    assert two.count("platform.complete_until") == Counter(derived)
    assert two.count("platform.ledger").keys() == {"events", "orders"}
    assert two.count("platform.query_progress").keys() == {stream.name for stream in streams}
    late_rows = two.count("platform.late_events")
    assert {late_rows[name] for name in derived if "revenue" in name} == {20}
    days = DeltaTable(two.lakehouse.table_uri("platform.changed_days")).to_pyarrow_table()["table_name"].to_pylist()
    assert {"silver.events", "silver.orders"} <= set(days)
    for table in PLATFORM_TABLES:
        found = two.lakehouse.find_table(table.name)
        rows = [] if found is None else found.to_pyarrow_table(columns=list(table.key)).to_pylist()
        keys = Counter(tuple(row.values()) for row in rows)
        assert [key for key, count in keys.items() if count > 1] == [], table.name


def test_a_group_whose_topic_is_missing_says_so_and_the_other_runs(two: TwoGroups) -> None:
    two.topics["orders"] = "no-such-topic"
    two.send("events", [purchase(n, NOW + n * MINUTE) for n in range(20)])
    (shop, _), (orders, said) = two.drain()
    assert (shop, orders) == (EXIT_DONE, EXIT_FAILED)
    assert "drain orders: Topic no-such-topic does not exist on" in said
    assert two.count("platform.ledger").keys() == {"events"}
