"""Times the way from a row in its table to readers of what is committed, at 500 rows a second.

Run it by `make bench ARGS=publishing`. A writer commits twice a second to a Delta table by delta-rs, as streams do. The
group `published` follows in a process of its own, by the embedded broker. The lag of a record is the time from its
version's commit to the moment at which a consumer with `isolation.level=read_committed` has it. CPU is that of the
group's process, in cores. At the end a whole table of 200,000 rows, and then one version of as many, is sent to
another topic.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow as pa
from confluent_kafka import Consumer
from deltalake import DeltaTable, write_deltalake

from platform_assets.publishing.publish_group import PublishGroup
from platform_assets.publishing.table_publisher import TablePublisher
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams.high_value_users import STREAM
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.kafka_topics import create_topic
from resources.lakehouse import LakehouseResource
from resources.ports import free_port
from resources.settings import Settings

ROWS_A_SECOND = 500
COMMITS_A_SECOND = 2
WHOLE_ROWS = 200_000
PARTITIONS = 3
TABLE = STREAM.main_table
_PATIENCE_SECONDS = 120.0


def main() -> None:
    """Prints a line for the versions, and one for a whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--follow", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.follow:
        follow(*args.follow)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        home = Path(folder)
        settings = Settings.model_validate(
            {"home": home, "kafka_port": free_port(), "KAFKA_BOOTSTRAP_SERVERS": "", "kafka_config": "{}"}
        )
        with KafkaResource.from_settings(settings) as kafka:
            measure_lag(kafka, LakehouseResource(root=str(home / "lakehouse")), home, args.seconds)
            measure_whole(kafka, LakehouseResource(root=str(home / "whole")), settings)


def build_stream(topic: str) -> TableStream:
    """A stream of the table, which nobody runs."""
    return replace(STREAM, publish_topic=topic)


def follow(root: str, servers: str, home: str) -> None:
    """The process of the group, until it is ended."""
    settings = Settings.model_validate({"home": Path(home), "KAFKA_BOOTSTRAP_SERVERS": servers, "kafka_config": "{}"})
    kafka = KafkaResource.from_settings(settings)
    PublishGroup([build_stream("followed")], settings, kafka, LakehouseResource(root=root), None).start()
    sys.stdin.read()


def build_rows(first: int, count: int) -> pa.Table:
    """Windows of users, each its own key."""
    begin = datetime.now(UTC)
    rows = {
        "window_start": [begin] * count,
        "window_end": [begin + timedelta(minutes=5)] * count,
        "user_id": [f"user-{number:09d}" for number in range(first, first + count)],
        "total_spent": [float(number) for number in range(count)],
        "purchase_count": [3] * count,
        "products_purchased": [2] * count,
        "currency": ["EUR"] * count,
    }
    return pa.table(rows, build_arrow_schema(TABLE))


def measure_lag(kafka: KafkaResource, lakehouse: LakehouseResource, home: Path, seconds: float) -> None:
    """Writes while the group follows; a thread notes when each record is seen."""
    create_topic(kafka, "followed", PARTITIONS, 1)
    create_topic(kafka, "headrace-published-positions", 1, 1, {"cleanup.policy": "compact"})
    table = create_table(lakehouse.table_uri(TABLE.name), TABLE)
    seen: list[tuple[int, float]] = []
    is_over = threading.Event()
    reader = threading.Thread(target=_read, args=(kafka, "followed", seen, is_over))
    with _following(lakehouse.root, kafka.servers(), home) as host:
        reader.start()
        try:
            _write_version(table, 0, 1)
            _wait_for(lambda: len(seen) == 1)
            before, began = _cpu_seconds(host), time.monotonic()
            committed = _write_for(table, seconds)
            wall, used = time.monotonic() - began, _cpu_seconds(host) - before
            wanted = 1 + len(committed) * (ROWS_A_SECOND // COMMITS_A_SECOND)
            _wait_for(lambda: len(seen) >= wanted)
            memory = host.memory_info().rss / 1024 / 1024
        finally:
            is_over.set()
            reader.join()
    lags = sorted(at - committed[version] for version, at in seen if version in committed)
    assert len(lags) == wanted - 1, "each row once"
    print(
        f"{len(lags):,} rows in {len(committed)} versions, {len(lags) / wall:.0f} rows/s for {wall:.0f} s: lag p50 "
        f"{statistics.median(lags):.2f} s, p99 {lags[int(0.99 * len(lags))]:.2f} s, most {lags[-1]:.2f} s; group "
        f"{used / wall:.3f} cores, {memory:.0f} MiB; load of the machine {psutil.getloadavg()[0]:.1f}"
    )


def measure_whole(kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings) -> None:
    """Sends a table of many rows as a first start does, and then as many as one version, in this process."""
    create_topic(kafka, "whole", PARTITIONS, 1)
    table = create_table(lakehouse.table_uri(TABLE.name), TABLE)
    engine = DuckDBResource.from_settings(settings)
    publisher = TablePublisher(build_stream("whole"), kafka, lakehouse, engine, None, PARTITIONS)
    for number, what in enumerate(("a whole table", "one version")):
        _write_version(table, number * WHOLE_ROWS, WHOLE_ROWS)
        began, used = time.monotonic(), time.process_time()
        while publisher.advance():
            pass
        wall, used = time.monotonic() - began, time.process_time() - used
        print(f"{what} of {WHOLE_ROWS:,} rows: {wall:.1f} s, {WHOLE_ROWS / used:,.0f} rows a CPU-second")
    assert publisher.records == 2 * WHOLE_ROWS
    publisher.close()


def _write_for(table: DeltaTable, seconds: float) -> dict[int, float]:
    """When each version was committed."""
    committed: dict[int, float] = {}
    rows, began = ROWS_A_SECOND // COMMITS_A_SECOND, time.monotonic()
    for number in range(int(seconds * COMMITS_A_SECOND)):
        time.sleep(max(0.0, began + number / COMMITS_A_SECOND - time.monotonic()))
        _write_version(table, 1 + number * rows, rows)
        at = time.monotonic()
        table.update_incremental()
        committed[table.version()] = at
    return committed


def _write_version(table: DeltaTable, first: int, count: int) -> None:
    write_deltalake(table, build_rows(first, count), mode="append")


def _read(kafka: KafkaResource, topic: str, seen: list[tuple[int, float]], is_over: threading.Event) -> None:
    options = {"group.id": "benchmark", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
    consumer = Consumer({**kafka.client_config(), **options})
    consumer.subscribe([topic])
    while not is_over.is_set():
        for record in consumer.consume(1_000, 0.01):
            assert record.error() is None, record.error()
            version = dict(record.headers() or [])["version"]
            assert isinstance(version, bytes)
            seen.append((int(version), time.monotonic()))
    consumer.close()


@contextmanager
def _following(root: str, servers: str, home: Path) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "benchmarks.publishing", "--follow", root, servers, str(home / "follower")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as host:
        try:
            yield psutil.Process(host.pid)
        finally:
            host.kill()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the group has not published all"
        time.sleep(0.01)


def _cpu_seconds(host: psutil.Process) -> float:
    return sum(host.cpu_times()[:2])


if __name__ == "__main__":
    main()
