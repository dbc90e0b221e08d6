"""How long it takes from a row to the one who is told, and what that costs: `make bench ARGS=alerts`.

A writer commits 2,000 refused records a second to a Delta table by delta-rs, once a second, as streams do to
silver.quarantined_events; each second a reason comes that was not there before. The alert `events_refused` and its
channel, a topic of the embedded broker, run in a process of their own. A consumer notes when each alert could be read:
from the row's own time, and from its commit. CPU is that of the process, in cores; `idle` is it while no row comes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from confluent_kafka import Consumer
from deltalake import DeltaTable, write_deltalake

from platform_assets.alerting.alert_group import AlertGroup
from platform_assets.alerting.channels import KafkaChannel
from platform_assets.alerts.events_refused import ALERT
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

ROWS_A_SECOND = 2_000
TOPIC = "alerts"


def main() -> None:
    """Prints the latencies and the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--follow", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.follow:
        follow(Settings(home=Path(args.follow), kafka_bootstrap_servers=""))
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        settings = Settings(home=Path(folder), kafka_bootstrap_servers="")
        with running_broker(settings), KafkaResource.from_settings(settings) as kafka:
            ensure_topic(kafka, TOPIC, 1)
            measure(settings, kafka, args.seconds)


def follow(settings: Settings) -> None:
    """The process with the alert and its channel, until it is ended."""
    lakehouse = LakehouseResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka:
        AlertGroup([ALERT], [KafkaChannel(kafka, TOPIC)], settings, lakehouse).start()
        sys.stdin.read()


def measure(settings: Settings, kafka: KafkaResource, seconds: int) -> None:
    """Runs both for some time, without and with rows."""
    lakehouse = LakehouseResource.from_settings(settings)
    table = create_table(lakehouse.table_uri(ALERT.table.name), ALERT.table, {})
    command = [sys.executable, "-m", "benchmarks.alerts", "--follow", str(settings.home)]
    read_at: dict[str, float] = {}
    stop = threading.Event()
    reader = threading.Thread(target=_read, args=(kafka, read_at, stop))
    with subprocess.Popen(command, stdin=subprocess.PIPE) as host:
        process = psutil.Process(host.pid)
        time.sleep(20)  # what a start costs is not what it costs to run
        idle = _measure_cpu(process, lambda: time.sleep(30), 30)
        reader.start()
        busy = _measure_cpu(process, lambda: _write(table, seconds), seconds)
        deadline = time.monotonic() + 30
        while len(read_at) < seconds and time.monotonic() < deadline:
            time.sleep(0.1)
        memory = process.memory_full_info().pss / 2**20
        stop.set()
        reader.join()
        host.terminate()
    alerts = {row["key"]: row for row in _read_alerts(lakehouse) if row["transition"] == "opened"}
    print(f"alerts opened: {len(alerts)} of {seconds}, told: {len(read_at)}")
    for what, column in (("the row's own time", "event_time"), ("its commit", "raised_at")):
        found = sorted(read_at[key] - alerts[key][column].timestamp() for key in read_at)
        print(f"from {what} to the consumer: p50 {statistics.median(found):.2f} s, p99 {_percentile(found):.2f} s, "
              f"longest {found[-1]:.2f} s")  # fmt: skip
    late = sorted(read_at, key=lambda key: read_at[key] - alerts[key]["raised_at"].timestamp())[-3:]
    print(f"the slowest three: {', '.join(late)} (reason-0 is the first, for which connections are made)")
    print(f"CPU: {busy:.3f} cores, idle {idle:.3f}; memory {memory:.0f} MiB")


def _write(table: DeltaTable, seconds: int) -> None:
    begun = time.monotonic()
    for number in range(seconds):
        now = datetime.now(UTC)
        given: dict[str, Any] = {
            "value": b"{" + b"x" * 200, "topic": "events", "kafka_partition": 0, "kafka_timestamp": now,
            "detail": "no JSON", "quarantined_at": now, "key": None,
        }  # fmt: skip
        rows = [
            {**given, "kafka_offset": number * ROWS_A_SECOND + row, "reason": f"reason-{number if row == 0 else 0}"}
            for row in range(ROWS_A_SECOND)
        ]
        write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(ALERT.table)), mode="append")
        time.sleep(max(0.0, begun + number + 1 - time.monotonic()))


def _read(kafka: KafkaResource, read_at: dict[str, float], stop: threading.Event) -> None:
    consumer = Consumer({**kafka.client_config(), "group.id": "bench", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    try:
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                alert = json.loads(message.value() or b"{}")
                if alert["transition"] == "opened":
                    read_at.setdefault(alert["key"], time.time())
    finally:
        consumer.close()


def _read_alerts(lakehouse: LakehouseResource) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lakehouse.delta_table("platform.alerts").to_pyarrow_table().to_pylist()
    return rows


def _measure_cpu(process: psutil.Process, work: Any, seconds: float) -> float:
    before = sum(process.cpu_times()[:2])
    work()
    return float((sum(process.cpu_times()[:2]) - before) / seconds)


def _percentile(found: list[float]) -> float:
    return found[min(len(found) - 1, int(0.99 * len(found)))]


if __name__ == "__main__":
    main()
