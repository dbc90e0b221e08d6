"""How many cores the whole group costs, idle and under live load, and the same streams as tutorials build them.

Headrace reads and parses Kafka once and runs its other streams over `silver.events`; in the naive design
(`benchmarks.naive_group`) each query reads and parses Kafka itself. Each design runs in a process, a home and a broker
of its own, one after the other, with the same Spark configuration and triggers, under the same simulated shop:
warm-up under load, silence, load again. Cores are CPU-seconds of the driver, the JVM and the Python workers by seconds
on the clock; broker and sender are not counted. RSS counts pages that Python workers share once for each worker, PSS
once.

Live figures can be compared only if the machine was not full (`machine busy`, everything on it) and batches did not
take longer than their triggers (`slowest batch`): a design that falls behind costs what is left for it. In silence
Headrace, unlike the other, closes windows with the clock, a batch of each query a minute, for as long as one is open;
`--idle-timeout 0` leaves that out. Run: `make bench ARGS=cost` (about 18 minutes on two cores). The shop is without
faults, for the naive design knows none; `--faults` sends the shop's usual ones, to Headrace alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.live_application import (
    CLEAN,
    LiveGroup,
    LiveRun,
    end_process,
    exit_on_sigterm,
    running_group,
    running_shop,
)
from benchmarks.naive_group import NaiveGroup
from benchmarks.query_reports import read_newest_batches
from benchmarks.spark_usage import CpuMeter, spark_pss_mib, spark_rss_mib
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.stream_spec import Stream

DESIGNS: dict[str, Callable[[SparkSession, Sequence[Stream], StreamContext], LiveGroup]] = {
    "headrace": QueryGroup,
    "naive": NaiveGroup,
}
COLUMNS = {
    "idle cores": ".2f",
    "live cores": ".2f",
    "RSS MiB at end": ",.0f",
    "PSS MiB at end": ",.0f",
    "slowest batch s": ".1f",
    "machine busy": ".2f",
}
# Twice the longest trigger of a stream: what was sent before is through, or has reached every query.
SETTLE_SECONDS = 40.0
# A design that has fallen behind works on after the shop has gone quiet.
CATCH_UP_SECONDS = 300.0
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
    parser.add_argument("--idle-timeout", type=float, default=60.0, help="as HEADRACE_IDLE_TIMEOUT_SECONDS")
    parser.add_argument("--faults", action="store_true", help="late, repeated and malformed records; Headrace alone")
    parser.add_argument("--design", choices=DESIGNS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    exit_on_sigterm()
    if args.design is not None:
        print(json.dumps(_measure(args)))
        return
    print(f"{args.rate:,} events/s  ", *COLUMNS, sep="  ")
    for design in ("headrace",) if args.faults else DESIGNS:
        found = _run_design(design)
        print(
            f"{design:15}",
            *(f"{found[name]:{len(name)}{form}}" for name, form in COLUMNS.items()),
            sep="  ",
            flush=True,
        )


def _run_design(design: str) -> dict[str, float]:
    # A file that came while the home was removed would otherwise cost the figures of minutes: seen once.
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as home:
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
    options = () if args.faults else CLEAN
    settings = Settings(home=args.home, kafka_bootstrap_servers="", idle_timeout_seconds=args.idle_timeout)
    with running_group(settings, load_streams(), DESIGNS[args.design]) as run:
        with running_shop(settings, args.rate, *options):
            run.pass_time(args.warm_up)
        _wait_until_idle(run)
        idle_cores, _ = _measure_cores(run, args.idle)
        with running_shop(settings, args.rate, *options):
            run.pass_time(SETTLE_SECONDS)
            live_cores, machine_cores = _measure_cores(run, args.live)
            rss, pss = spark_rss_mib(), spark_pss_mib()
            batches = read_newest_batches(run.session)
    return {
        "idle cores": idle_cores,
        "live cores": live_cores,
        "RSS MiB at end": sum(rss.values()),
        "PSS MiB at end": sum(pss.values()),
        "slowest batch s": max(batch.seconds for batch in batches.values()),
        "machine busy": machine_cores,
    }


def _wait_until_idle(run: LiveRun) -> None:
    """Waits until the last trigger of each query found nothing. Exits when that does not come."""
    run.pass_time(SETTLE_SECONDS)
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while busy := read_newest_batches(run.session):
        if time.monotonic() > deadline:
            sys.exit(f"Not caught up {CATCH_UP_SECONDS:.0f} s after the last event: {', '.join(sorted(busy))}.")
        run.pass_time(1.0)


def _measure_cores(run: LiveRun, seconds: float) -> tuple[float, float]:
    """Cores that the group uses in this time, and cores that everything on the machine uses."""
    began, meter = time.monotonic(), CpuMeter()
    psutil.cpu_percent()  # the next call tells of the time since this one
    while (left := began + seconds - time.monotonic()) > 0:
        run.pass_time(min(LOOK_SECONDS, left))
        meter.look()
    machine = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    return meter.seconds / (time.monotonic() - began), machine


if __name__ == "__main__":
    main()
