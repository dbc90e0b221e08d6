"""A backfill of 90 days: one run in one Spark application against a run a day; and one that finds nothing changed.

Real runs, as the daemon starts them: each a process of its own with its own Spark. The runs by day are measured on a
sample, spread over the days. Run: `make bench ARGS=backfill` (about fifteen minutes).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from benchmarks.shop_days import write_events, write_stream_tables
from platform_assets.reports import DAILY_REPORTS
from platform_assets.reports.day_states import REPORT_DAYS
from resources.lakehouse import LakehouseResource
from resources.spark.session import SparkResource

FIRST = date(2026, 1, 1)
EVENTS_A_DAY = 20_000
USERS = 3_000


def main() -> None:
    """Prints seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--sample", type=int, default=5, help="days that are run one by one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        lakehouse = LakehouseResource(root=f"{home}/lakehouse")
        rows = write_events(lakehouse, FIRST, args.days, EVENTS_A_DAY, USERS)
        with SparkResource(app_name="bench").running() as spark:
            write_stream_tables(spark, lakehouse)
        step = max(1, args.days // args.sample)
        sample = [FIRST + timedelta(days=n) for n in range(0, args.days, step)][: args.sample]
        one_by_one = [_materialize(home, ["--partition", str(day)]) for day in sample]
        mean = sum(one_by_one) / len(one_by_one)
        for table in (*(report.table for report in DAILY_REPORTS), REPORT_DAYS):
            lakehouse.delta_table(table.name).delete()
        last = FIRST + timedelta(days=args.days - 1)
        whole = _materialize(home, ["--partition-range", f"{FIRST}...{last}"])
        again = _materialize(home, ["--partition-range", f"{FIRST}...{last}"])
        states = lakehouse.delta_table(REPORT_DAYS.name).to_pyarrow_table()
        assert len(states) == args.days * len(DAILY_REPORTS), len(states)
    print(f"{args.days} days, {rows:,} events, {len(DAILY_REPORTS)} reports")
    print(f"one run a day: {mean:.1f} s a run ({len(sample)} measured), {mean * args.days:,.0f} s for all")
    print(f"one run for all: {whole:.0f} s, {mean * args.days / whole:.1f} times as fast")
    print(f"the same again, nothing changed: {again:.0f} s")


def _materialize(home: str, which: list[str]) -> float:
    environment = {**os.environ, "HEADRACE_HOME": home, "HEADRACE_LAKEHOUSE": f"{home}/lakehouse"}
    environment.pop("DAGSTER_HOME", None)
    program = Path(sys.executable).parent / "dagster"
    keys = ",".join("/".join(report.table.asset_path) for report in DAILY_REPORTS)
    command = [str(program), "asset", "materialize", "-m", "platform_assets.definitions", "--select", keys, *which]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
