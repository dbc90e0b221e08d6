"""Measures the time from an event to its readable row in `silver.events`, live, with every stream of the group running.

The simulated shop sends clean, punctual events from a process of its own; one Spark application runs the whole group.
An event's latency is the time of the Delta commit that holds it less its own time, so it includes the sender, Kafka,
the wait for the next micro-batch, and the batch. CPU-seconds are those of the driver, the JVM and the Python workers.
Run: `make bench ARGS=latency` (about seven minutes on two cores).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.live_application import CLEAN, exit_on_sigterm, running_group, running_shop
from benchmarks.silver_commits import read_commits, read_latencies
from benchmarks.spark_usage import spark_cpu_seconds
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.settings import Settings

# A JVM's compilers need so long until batches have the cost that they keep; what users of a 24/7 stream see.
WARM_UP_SECONDS = 90.0


def main() -> None:
    """Measures each rate in a fresh home and prints one line a rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS)
    parser.add_argument("--streams", nargs="+", help="only these (default: all)")
    parser.add_argument("--keep", type=Path, help="keep the tables in this folder")
    args = parser.parse_args()
    exit_on_sigterm()
    for rate in args.rates:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            home = args.keep / str(rate) if args.keep else Path(folder)
            _measure(Settings(home=home, kafka_bootstrap_servers=""), rate, args)


def _measure(settings: Settings, rate: int, args: argparse.Namespace) -> None:
    streams = [stream for stream in load_streams() if not args.streams or stream.name in args.streams]
    with running_group(settings, streams, QueryGroup) as run, running_shop(settings, rate, *CLEAN):
        run.pass_time(args.warm_up)
        began, cpu = time.time(), spark_cpu_seconds()
        run.pass_time(args.seconds)
        ended, cpu = time.time(), spark_cpu_seconds() - cpu
    commits = [c for c in read_commits(Path(settings.lakehouse, "silver", "events")) if began <= c.at <= ended]
    latencies = read_latencies(commits)
    p50, p99 = np.percentile(latencies, [50, 99])
    print(
        f"{rate:>6,} events/s: p50 {p50:.2f} s, p99 {p99:.2f} s over {len(latencies):,} events "
        f"in {len(commits)} commits; {cpu / (ended - began):.2f} cores",
        flush=True,
    )


if __name__ == "__main__":
    main()
