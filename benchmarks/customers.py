"""What a run of gold.customer_360 costs after 1, 10 and 100 days of history.

The history lies in gold.customer_days; measured is the run that takes in one more day (CPU of Spark and Python, its
start apart). Run: `make bench ARGS=customers` (about ten minutes).
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import date, timedelta

from benchmarks.reports import Meter
from benchmarks.shop_days import compute_days, write_events, write_stream_tables
from platform_assets.reports.customer_360 import update_customers
from platform_assets.reports.customer_days import CUSTOMER_DAYS
from platform_assets.reports.days import DayRange, split_days
from platform_assets.reports.duckdb_engine import DuckDBEngine
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.spark.session import SparkResource

LAST = date(2026, 3, 31)
EVENTS_A_DAY = 100_000
USERS = 20_000


def main() -> None:
    """Prints a line a history."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="*", default=[1, 10, 100])
    args = parser.parse_args()
    with SparkResource(app_name="bench").running() as spark, DuckDBResource().connected() as connection:
        for days in args.days:
            with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
                lakehouse = LakehouseResource(root=root)
                engine = DuckDBEngine(connection, lakehouse)
                first = LAST - timedelta(days=days)
                write_events(lakehouse, first, days + 1, EVENTS_A_DAY, USERS)
                write_stream_tables(spark, lakehouse)
                for chunk in split_days(DayRange(first, LAST - timedelta(days=1)).days(), 10):
                    compute_days(engine, lakehouse, CUSTOMER_DAYS, chunk)
                meter = Meter()
                update_customers(engine, lakehouse)
                built = meter.read()
                meter = Meter()
                compute_days(engine, lakehouse, CUSTOMER_DAYS, DayRange(LAST, LAST))
                table = update_customers(engine, lakehouse)
                run, rows = meter.read(), table.to_pyarrow_dataset().count_rows()
            print(
                f"{days:3} days before, {rows:,} customers: built anew in {built[0]:.1f} s ({built[1]:.1f} CPU-s); "
                f"one day more in {run[0]:.1f} s ({run[1]:.1f} CPU-s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
