"""What a scrape of the metrics costs, on a real Dagster instance (SQLite): time, CPU, bytes, for 1, 10 and 100 groups.

Each group has a heartbeat of the shop's queries as a host at work writes it, and each check of the shop a verdict. The
verdicts are read once a minute; what a core has to do for a scrape each 15 s follows from both kinds of scrapes.
Run: `make bench ARGS=scrape` (about a minute).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import dagster as dg
from prometheus_client import CollectorRegistry, generate_latest

from jobs.platform.run_in_process import load_check_keys
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.group_lease import identify_myself
from jobs.supervision.lease import HostReport, write_heartbeat
from jobs.supervision.model import Heartbeat
from jobs.watching.collector import PlatformCollector
from jobs.watching.platform_reading import PlatformReader
from platform_assets.streaming.batch_totals import PARTS, WHOLE, BatchTotals
from platform_assets.streaming.progress import QueryProgress
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams import load_streams
from resources.settings import Settings

INTERVAL_SECONDS = 15.0
SCRAPES_OF_A_MINUTE = 4
MOMENT = "2026-01-01T12:00:00.000000+00:00"


def main() -> None:
    """Prints a line for each number of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--scrapes", type=int, default=50)
    args = parser.parse_args()
    keys = load_check_keys()
    print(f"{len(load_streams())} queries a group, {len(keys)} checks; a heartbeat has {_count_bytes():,} bytes")
    for count in args.groups:
        groups = [StreamGroup(f"group_{number}", tuple(load_streams())) for number in range(count)]
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
            measure(Settings(home=Path(home)), groups, keys, args.scrapes)


def measure(settings: Settings, groups: Sequence[StreamGroup], keys: Sequence[dg.AssetCheckKey], scrapes: int) -> None:
    """Scrapes a platform of these groups and prints what that takes."""
    os.environ["DAGSTER_HOME"] = str(ensure_dagster_home(settings))
    with dg.DagsterInstance.get() as instance:
        give_verdicts(instance, keys)
        for group in groups:
            write_heartbeat(instance, group.name, build_report())
        registry = CollectorRegistry()
        registry.register(PlatformCollector(settings, groups, keys))
        size = len(generate_latest(registry))
        millis, cpu = _time(registry, scrapes)
        with_verdicts = []
        for _ in range(max(1, scrapes // SCRAPES_OF_A_MINUTE)):
            reader, began = PlatformReader([group.name for group in groups], keys), time.process_time()
            assert len(reader.read(instance, time.monotonic()).verdicts) == len(keys)
            with_verdicts.append(time.process_time() - began)
    first = statistics.mean(with_verdicts)  # without the text, which each scrape has
    share = (first + SCRAPES_OF_A_MINUTE * cpu) / (SCRAPES_OF_A_MINUTE * INTERVAL_SECONDS)
    print(
        f"{len(groups):4} groups: p50 {statistics.median(millis):6.1f} ms, max {max(millis):6.1f} ms; "
        f"CPU {cpu * 1000:6.1f} ms, once a minute {first * 1000:6.1f} ms; {size:,} bytes; {share:.2%} of a core"
    )  # fmt: skip


def _time(registry: CollectorRegistry, scrapes: int) -> tuple[list[float], float]:
    """Milliseconds of each scrape, and CPU seconds of one."""
    millis, began_cpu = [], time.process_time()
    for _ in range(scrapes):
        began = time.perf_counter()
        text = generate_latest(registry)
        millis.append((time.perf_counter() - began) * 1000)
        assert b"headrace_storage_up 1.0" in text
    return millis, (time.process_time() - began_cpu) / scrapes


def build_report() -> HostReport:
    """A report as of a host that has been at work for some hours."""
    totals = BatchTotals()
    for number in range(1000):
        totals = totals.add({WHOLE: 700 + number, **dict.fromkeys(PARTS, 100)})
    me = identify_myself()
    queries = {
        stream.name: asdict(
            QueryProgress(
                stream.name, "0e3f5a4c-7d0f-4d3b-9a57-2f4c5b1f9e10", 123_456, 98_765_432, 1234.5, 0, MOMENT,
                dict.fromkeys((table.name for table in stream.tables), 123_456), MOMENT, True, MOMENT,
                bytes_in=98_765_432_100, totals=totals, unread_records=0, state_rows=1_234_567, state_bytes=123_456_789,
                verdicts={"accepted": 98_765_432, "quarantined": 1, "deduplicated": 2, "erased": 3}, late_pending=4,
            )
        )
        for stream in load_streams()
    }  # fmt: skip
    used = {name: {"rss_bytes": 1_234_567_890, "cpu_seconds": 12_345.67} for name in ("host", "jvm", "workers")}
    return HostReport(Heartbeat("run", time.time(), me, "running", 12, me), queries, used)


def _count_bytes() -> int:
    report = build_report()
    return len(json.dumps({**asdict(report.heartbeat), "queries": report.queries, "processes": report.processes}))


def give_verdicts(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> None:
    """Runs checks of these names, which pass."""

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec(key.name, asset=key.asset_key) for key in keys])
    def checks() -> Iterator[dg.AssetCheckResult]:
        for key in keys:
            yield dg.AssetCheckResult(
                passed=True, asset_key=key.asset_key, check_name=key.name, description="All is as it should be.",
                metadata={"rows_in": 1_234_567, "lost": 0, "doubled": 0},
            )  # fmt: skip

    job = dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks(), executor_def=dg.in_process_executor)
    definitions = dg.Definitions(asset_checks=[checks], jobs=[job])
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    definitions.resolve_job_def("checks").execute_in_process(instance=instance, run_config=quiet)


if __name__ == "__main__":
    main()
