"""Measures kill -9 of the broker that leads a partition to the next commit with records of that partition.

Three brokers with three replicas (tests/kafka_cluster.py), the stream `events` on them, and a shop that goes on
sending. Each round kills the leader of partition 0, waits for another leader, and for the first commit of
`silver.events` that goes beyond what the dead broker had taken; then the broker is started and catches up. How long
nobody leads is the cluster's `broker.session.timeout.ms`, nine seconds by default: `--session-seconds` sets it. With
`--freeze` the broker is stopped in its tracks with its connections open, as by a lost host.
Run: `make bench ARGS=broker_kill` (about five minutes on two cores).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

from benchmarks.live_application import LiveRun, exit_on_sigterm, running_group, running_shop
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.settings import Settings
from tests.kafka_cluster import BROKERS, KafkaCluster, TopicState, running_cluster, wait_until

TOPIC = Settings.model_fields["topic"].default
"""Where the simulated shop sends."""


def main() -> None:
    """Prints, phase by phase, median, longest and all values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rate", type=int, default=200, help="live events a second")
    parser.add_argument("--session-seconds", type=int, default=9, help="broker.session.timeout.ms of the cluster")
    parser.add_argument("--freeze", action="store_true", help="freeze the broker instead of killing it")
    args = parser.parse_args()
    exit_on_sigterm()
    print(f"load {os.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores", flush=True)
    extra = {
        "broker.session.timeout.ms": str(args.session_seconds * 1000),
        "broker.heartbeat.interval.ms": str(min(2000, args.session_seconds * 250)),
    }
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        running_cluster(Path(folder), extra) as cluster,
    ):
        settings = cluster.settings(Path(folder, "home"), spark_heap_mib=768)
        with KafkaResource.from_settings(settings) as kafka:
            kafka.admin().create_topics([NewTopic(TOPIC, 3, 3)])[TOPIC].result(30)
            wait_until(lambda: is_whole(kafka), "the topic has its replicas")
            ingest = select_ingest(load_streams())
            with running_group(settings, ingest, QueryGroup) as run, running_shop(settings, args.rate):
                rounds = [measure(cluster, kafka, settings, run, args.freeze) for _ in range(args.kills)]
    for name in rounds[0]:
        values = sorted(found[name] for found in rounds)
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:26} p50 {statistics.median(values):5.1f} s   max {values[-1]:5.1f} s   all {shown}")


def measure(
    cluster: KafkaCluster, kafka: KafkaResource, settings: Settings, run: LiveRun, freeze: bool
) -> dict[str, float]:
    """One round; the queries' own failure ends the program."""
    wait(run, lambda: is_whole(kafka) and find_commit(settings, 0) is not None)
    leader, end = TopicState.read(kafka, TOPIC).leaders[0], kafka.end_offsets(TOPIC)[0]
    assert leader is not None
    killed = time.time()
    with cluster.frozen(leader) if freeze else contextlib.nullcontext():
        if not freeze:
            cluster.kill(leader)
        wait(run, lambda: TopicState.read(kafka, TOPIC).leaders[0] not in (None, leader))
        led = time.time()
        wait(run, lambda: find_commit(settings, end) is not None)
        committed = find_commit(settings, end)
        assert committed is not None
    if not freeze:
        cluster.start(leader)
    wait(run, lambda: is_whole(kafka))
    found = {"another broker leads": led - killed, "next commit": committed - killed}
    print(f"load {os.getloadavg()[0]:.1f}", found, flush=True)
    return found


def find_commit(settings: Settings, end: int) -> float | None:
    """When the first commit was made that reads partition 0 beyond an offset, seconds since 1970; None: not yet."""
    found = None
    logs = Path(settings.lakehouse, "silver", "events", "_delta_log").glob("[0-9]*.json")
    for log in sorted(logs, reverse=True):
        for action in map(json.loads, log.read_text().splitlines()):
            info = CommitInfo.parse(action.get("commitInfo", {}).get("userMetadata"))
            for _topic, partition, _start, until in (info.ranges if info is not None else None) or []:
                if partition == 0 and until <= end:
                    return found
                if partition == 0:
                    found = log.stat().st_mtime
    return found


def is_whole(kafka: KafkaResource) -> bool:
    """Whether each partition has all of its replicas in sync."""
    return set(TopicState.read(kafka, TOPIC).in_sync.values()) == {BROKERS}


def wait(run: LiveRun, condition: Callable[[], bool]) -> None:
    """Waits for a condition; a broker that does not answer is none. Raises what ended a query."""
    while True:
        with contextlib.suppress(KafkaException):
            if condition():
                return
        run.pass_time(0.05)


if __name__ == "__main__":
    main()
