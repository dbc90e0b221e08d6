"""From an event's time to a readable row of `silver.events`, live, with every stream of the group running.

The simulated shop sends clean, punctual events from a process of its own; one Spark application runs the whole group.
An event's latency is the time of the Delta commit that holds it less its own time, so it includes the sender, Kafka,
the wait for the next micro-batch, and the batch. CPU-seconds are those of the driver, the JVM and the Python workers.
Run: `make bench ARGS=latency` (about seven minutes on two cores).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.silver_commits import read_commits, read_latencies
from benchmarks.spark_cpu import spark_cpu_seconds
from jobs.stream_context import build_stream_context
from platform_assets.streaming.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.embedded_broker import running_broker
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark import SparkResource

CLEAN = ("--late", "0", "--duplicates", "0", "--malformed", "0", "--habit", "out_of_order=0")
# A JVM's compilers need so long until batches have the cost that they keep; what users of a 24/7 stream see.
WARM_UP_SECONDS = 90.0
POLL_SECONDS = 0.5


def main() -> None:
    """Measures each rate in a fresh home and prints one line a rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS)
    parser.add_argument("--streams", nargs="+", help="only these (default: all)")
    parser.add_argument("--keep", type=Path, help="keep the tables in this folder")
    args = parser.parse_args()
    for rate in args.rates:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            home = args.keep / str(rate) if args.keep else Path(folder)
            _measure(Settings(home=home, kafka_bootstrap_servers=""), rate, args)


def _measure(settings: Settings, rate: int, args: argparse.Namespace) -> None:
    streams = [stream for stream in load_streams() if not args.streams or stream.name in args.streams]
    lakehouse = LakehouseResource.from_settings(settings)
    with running_broker(settings), SparkResource.from_settings(settings, "benchmark").running() as session:
        with KafkaResource.from_settings(settings) as kafka:
            context = build_stream_context(settings, kafka, lakehouse)
        group = QueryGroup(session, streams, context)
        group.start()
        shop = _open_shop(settings, rate)
        try:
            _pass_time(group, args.warm_up)
            began, cpu = time.time(), spark_cpu_seconds()
            _pass_time(group, args.seconds)
            ended, cpu = time.time(), spark_cpu_seconds() - cpu
        finally:
            shop.terminate()
            shop.wait(30)
            group.stop(60.0)
    commits = [c for c in read_commits(Path(lakehouse.root) / "silver" / "events") if began <= c.at <= ended]
    latencies = read_latencies(commits)
    p50, p99 = np.percentile(latencies, [50, 99])
    print(
        f"{rate:>6,} events/s: p50 {p50:.2f} s, p99 {p99:.2f} s over {len(latencies):,} events "
        f"in {len(commits)} commits; {cpu / (ended - began):.2f} cores",
        flush=True,
    )


def _open_shop(settings: Settings, rate: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", str(rate), "--seed", "1", "--quiet", *CLEAN]
    with KafkaResource.from_settings(settings) as kafka:
        servers = kafka.servers()
    environment = {"HEADRACE_HOME": str(settings.home), "KAFKA_BOOTSTRAP_SERVERS": servers, "PATH": ""}
    return subprocess.Popen(command, env=environment)


def _pass_time(group: QueryGroup, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (failure := group.failure()) is not None:
            raise failure
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
