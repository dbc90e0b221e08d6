"""Sixty records of 16 MB in one backlog: the memory and the time in which `headrace drain` reads them.

With Spark's default heap, once with values that cannot be compressed and once with values of one letter, which Kafka
holds in 64 kB each. Run: `make bench ARGS=large_records` (about three minutes; 3 GB of disk).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deltalake import DeltaTable

from benchmarks.busy_user import measure
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings

# What broker and producer allow, less the record's own fields.
SIZE = 16 * 1024 * 1024 - 1024


def main() -> None:
    """Sends the records of each kind, drains, prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=60)
    args = parser.parse_args()
    for kind in ("random", "one letter"):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
            settings = Settings(home=Path(home), kafka_bootstrap_servers="")
            with running_broker(settings):
                send(settings, build_values(kind, args.records))
                print(f"{args.records} records of {SIZE:,} bytes, {kind}", flush=True)
                measure(settings, "drain")
            print(f"{count_quarantined(settings)} quarantined", flush=True)


def build_values(kind: str, count: int) -> Iterator[bytes]:
    """The records' values."""
    return (os.urandom(SIZE) if kind == "random" else b"x" * SIZE for _ in range(count))


def send(settings: Settings, values: Iterator[bytes]) -> None:
    """Sends one value after the other: a producer that holds them all would need their memory."""
    with KafkaResource.from_settings(settings) as kafka:
        ensure_topic(kafka, settings.topic, settings.topic_partitions)
        producer = kafka.producer()
        for number, value in enumerate(values):
            producer.produce(settings.topic, value, partition=number % settings.topic_partitions)
            if producer.flush(60):
                raise SystemExit("The broker did not take all records.")


def count_quarantined(settings: Settings) -> int:
    """Rows of the table, by its log."""
    actions = DeltaTable(f"{settings.lakehouse}/silver/quarantined_events").get_add_actions(flatten=True)
    return sum(actions.column("num_records").to_pylist())


if __name__ == "__main__":
    main()
