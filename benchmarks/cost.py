"""How many cores the whole group costs, idle and under live load, beside the same streams as tutorials build them.

Headrace reads and parses Kafka once and runs its other streams over `silver.events`; in the naive design
(`benchmarks.naive_group`) each query reads and parses Kafka itself. Each design runs in a process, a home and a broker
of its own, one after the other, with the same Spark configuration and triggers, under the same simulated shop:
warm-up under load, silence, load again. Cores are CPU-seconds of the driver, the JVM and the Python workers by seconds
on the clock; broker and sender are not counted.

Idle is a shop whose last windows are closed: queries look, and find nothing. In the first forty minutes of silence
Headrace, unlike the other, closes windows with the clock, for which its queries go on; `--idle-timeout 5` measures
that. Run: `make bench ARGS=cost` (about 17 minutes on two cores).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.live_application import (
    CLEAN,
    LiveGroup,
    end_process,
    exit_on_sigterm,
    pass_time,
    running_group,
    running_shop,
)
from benchmarks.naive_group import NaiveGroup
from benchmarks.spark_usage import CpuMeter, spark_rss_mib
from platform_assets.streaming.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.settings import Settings

DESIGNS = {"headrace": QueryGroup, "naive": NaiveGroup}
# Twice the longest trigger of a stream: what was sent before is through, or has reached every query.
SETTLE_SECONDS = 40.0
LOOK_SECONDS = 5.0
# Batches in flight, and the ends of JVM, shop and broker.
STOP_SECONDS = 180.0


def main() -> None:
    """Runs both designs, each in a process of its own, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2_000, help="live events a second")
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds under load before all that is measured")
    parser.add_argument("--idle", type=float, default=120.0, help="seconds")
    parser.add_argument("--live", type=float, default=240.0, help="seconds")
    parser.add_argument("--idle-timeout", type=float, default=0.0, help="as HEADRACE_IDLE_TIMEOUT_SECONDS; 0: never")
    parser.add_argument("--design", choices=DESIGNS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    exit_on_sigterm()
    if args.design is not None:
        print(json.dumps(_measure(args)))
        return
    print(f"{'design':10} {'idle cores':>10} {'live cores':>10} {'RSS MiB at end':>14}   ({args.rate:,} events/s)")
    for design in DESIGNS:
        found = _run_design(design)
        print(f"{design:10} {found['idle']:10.2f} {found['live']:10.2f} {found['rss_mib']:14,.0f}", flush=True)


def _run_design(design: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        command = [sys.executable, "-m", "benchmarks.cost", *sys.argv[1:], "--design", design, "--home", home]
        # In a session of its own: a Ctrl-C is for this process, which passes it on once.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        try:
            output, _ = process.communicate()
        finally:
            end_process(process, STOP_SECONDS)
    if process.returncode != 0:
        sys.exit(f"The design {design} failed.")
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _measure(args: argparse.Namespace) -> dict[str, float]:
    settings = Settings(home=args.home, kafka_bootstrap_servers="", idle_timeout_seconds=args.idle_timeout)
    design = DESIGNS[args.design]
    with running_group(settings, lambda session, context: design(session, load_streams(), context)) as group:
        with running_shop(settings, args.rate, *CLEAN):
            pass_time(group, args.warm_up)
        pass_time(group, SETTLE_SECONDS)
        idle = _measure_cores(group, args.idle)
        with running_shop(settings, args.rate, *CLEAN):
            pass_time(group, SETTLE_SECONDS)
            live = _measure_cores(group, args.live)
            rss = spark_rss_mib()
    return {"idle": idle, "live": live, "rss_mib": sum(rss.values())}


def _measure_cores(group: LiveGroup, seconds: float) -> float:
    began, meter = time.monotonic(), CpuMeter()
    while (left := began + seconds - time.monotonic()) > 0:
        pass_time(group, min(LOOK_SECONDS, left))
        meter.look()
    return meter.seconds / (time.monotonic() - began)


if __name__ == "__main__":
    main()
