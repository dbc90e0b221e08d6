"""How fast all streams read the backlog of an outage, with a hot user and a hot product, and whether any of it is late.

The backlog is in Kafka before the group starts: ten minutes at 2,000 events/s, as they would have been sent. One user
has a fifth of all events, one product a third of the others. Time counts from the group's start, without that of Spark.
Run: `make bench ARGS=catch_up` (about three minutes).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from benchmarks.live_application import LiveRun, running_group
from benchmarks.query_reports import read_last_reports
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.progress import lag_of
from platform_assets.streaming.stream_spec import Stream
from platform_assets.streams import load_streams
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings

TYPES = ("page_view",) * 7 + ("add_to_cart",) * 2 + ("purchase",)
POLL_SECONDS = 0.5


def main() -> None:
    """Fills the topic, starts the group, prints when each query had read everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the outage")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second during the outage")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        settings = Settings(home=Path(home), kafka_bootstrap_servers="")
        with running_broker(settings):
            send_backlog(settings, args.minutes, args.rate)
            began = time.monotonic()
            with running_group(settings, load_streams(), QueryGroup) as run:
                started = time.monotonic()
                done = wait_for_all(run, settings, load_streams())
                late = len(DeltaTable(f"{settings.lakehouse}/platform/late_events").to_pyarrow_table())
    print(f"Spark and the queries started in {started - began:.0f} s")
    for name, moment in sorted(done.items(), key=lambda item: item[1]):
        seconds = moment - started
        print(f"{name:20} {seconds:6.0f} s  {args.minutes * 60 / seconds:5.1f} times real time")
    print(f"late events: {late}")


def send_backlog(settings: Settings, minutes: float, rate: int, name: str = "e") -> None:
    """Sends the events of the last `minutes`, keyed by user, with the times at which they would have been sent.

    Their ids begin with `name`: those of another backlog must not be taken for repetitions.
    """
    chance = random.Random(1)
    count = round(minutes * 60 * rate)
    first = time.time() - minutes * 60
    with KafkaResource.from_settings(settings) as kafka:
        ensure_topic(kafka, settings.topic, settings.topic_partitions)
        producer = kafka.producer()
        for number in range(count):
            at = first + number / rate
            event = _event(f"{name}{number}", at, chance)
            producer.produce(settings.topic, json.dumps(event), event["user_id"], timestamp=int(at * 1000))
            if number % 10_000 == 0:
                producer.flush()
        if producer.flush(60):
            raise SystemExit("The broker did not take all records.")


def _event(event_id: str, at: float, chance: random.Random) -> dict[str, Any]:
    is_hot = chance.random() < 0.2
    kind = chance.choice(TYPES)
    hot_product = not is_hot and chance.random() < 0.33
    return {
        "event_id": event_id,
        "event_type": kind,
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "user_id": "hot" if is_hot else f"user-{chance.randrange(50_000)}",
        "product_id": "hot" if hot_product else f"product-{chance.randrange(2_000)}",
        "category": chance.choice(("toys", "books", "garden")),
        "price": 9.99,
        "quantity": 1,
        "device_type": "mobile",
        "country": "DE",
        "revenue": 9.99 if kind == "purchase" else 0.0,
    }


def wait_for_all(run: LiveRun, settings: Settings, streams: Sequence[Stream]) -> dict[str, float]:
    """When each query of these streams had read everything, by `time.monotonic`. Raises what ended a query."""
    done: dict[str, float] = {}
    version = None
    while len(done) < len(streams):
        for name, report in read_last_reports(run.session).items():
            if name not in done and _is_read(report, version):
                done[name] = time.monotonic()
        if version is None and "events" in done:
            version = DeltaTable(f"{settings.lakehouse}/silver/events").version()
        run.pass_time(POLL_SECONDS)
    return done


def _is_read(report: dict[str, Any], version: int | None) -> bool:
    """Whether a query has read Kafka to its end, or silver.events up to `version` (None: not known yet)."""
    if (lag := lag_of(report)) is not None:
        return lag == 0
    offset = report["sources"][0]["endOffset"]
    offset = json.loads(offset) if isinstance(offset, str) else offset
    return version is not None and offset is not None and offset["version"] >= version


if __name__ == "__main__":
    main()
