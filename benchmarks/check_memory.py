"""What the check `consistency` takes at its peak: gold.customer_360 over long histories, and a chunk of a backfill.

Each measurement is a process of its own: its peak of resident memory, less what it had before it began, its time and
its CPU. The tables are made up here (the reports by the check's own recomputation: what is measured is the comparison).
Run: `make bench ARGS=check_memory` (about ten minutes; 3 GB of disk).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.reports import DAILY_REPORTS, REPORT_TABLES
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_report import ReportCommit
from platform_assets.reports.days import DayRange
from platform_assets.streams.sessions import SESSIONS
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    import polars as pl

FIRST = date(2026, 1, 1)
CUSTOMERS_A_DAY = 100_000
USERS = 1_000_000
PRODUCTS = 1_000


def main() -> None:
    """Prints a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customer-days", type=int, nargs="*", default=[3_000_000, 12_000_000], help="rows")
    parser.add_argument("--days", type=int, default=10, help="of the backfill's chunk")
    parser.add_argument("--events-a-day", type=int, default=2_000_000)
    parser.add_argument("--only", nargs=2, metavar=("ROOT", "TABLE"), help="measures one table in this process")
    args = parser.parse_args()
    if args.only:
        _measure(*args.only)
        return
    for rows in args.customer_days:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
            _write_customers(LakehouseResource(root=root), rows)
            _measure_apart(root, "gold.customer_360", f"{rows:,} rows of gold.customer_days")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
        _write_days(LakehouseResource(root=root), args.days, args.events_a_day)
        for report in DAILY_REPORTS:
            _measure_apart(root, report.table.name, f"{args.days} days of {args.events_a_day:,} events")


def _measure_apart(root: str, name: str, what: str) -> None:
    command = [sys.executable, "-m", "benchmarks.check_memory", "--only", root, name]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{name}, {what}: {found}", flush=True)


def _measure(root: str, name: str) -> None:
    from platform_assets.checks.recomputed import comparison  # noqa: F401  # loaded before the measurement begins
    from platform_assets.checks.report_consistency import find_inconsistencies, find_newest_report_commit

    lakehouse = LakehouseResource(root=root)
    report = lakehouse.delta_table(name)
    commit = find_newest_report_commit(report)
    assert commit is not None
    sources = {source: lakehouse.delta_table(source) for source in commit.inputs}
    (spec,) = (table for table in REPORT_TABLES if table.name == name)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    days = None if commit.days is None else commit.days.days()
    found = find_inconsistencies(report, sources, spec, days)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "peak_mb": after.ru_maxrss // 1024,
                "before_mb": before.ru_maxrss // 1024,
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(cpu, 1),
                "differing_rows": found.count,
            }
        )
    )


def _write_customers(lakehouse: LakehouseResource, rows: int) -> None:
    """Writes gold.customer_days with `rows` rows (two products in each cart), and gold.customer_360 from it."""
    import numpy as np
    import polars as pl

    chance = np.random.default_rng(1)
    for number in range(rows // CUSTOMERS_A_DAY):
        day = FIRST + timedelta(days=number)
        at = (pl.lit(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))).cast(pl.Datetime("us", "UTC"))
        users = chance.choice(USERS, CUSTOMERS_A_DAY, replace=False)
        product = {n: pl.Series(f"product{n}", chance.integers(0, PRODUCTS, CUSTOMERS_A_DAY) * 2 + n) for n in (0, 1)}
        cart = [
            pl.concat_str(
                pl.lit('"product-'), product[n].cast(pl.String), pl.lit('":{"at":'), at.dt.epoch("us").cast(pl.String),
                pl.lit(',"partition":1,"offset":'), pl.col("user").cast(pl.String),
                pl.lit(',"open":true}' if n else ',"open":false}'),
            )
            for n in (0, 1)
        ]  # fmt: skip
        frame = pl.DataFrame({"user": users}).select(
            pl.lit(day).alias("report_date"),
            pl.format("user-{}", "user").alias("user_id"),
            *(at.alias(name) for name in ("first_event_at", "last_event_at", "last_purchase_at")),
            *(at.alias(name) for name in ("last_session_start", "last_session_end")),
            pl.lit(5, pl.Int64).alias("events"),
            pl.lit(1, pl.Int64).alias("purchases"),
            pl.lit(19.99).alias("total_revenue"),
            pl.lit('{"EUR":"19.99"}').alias("revenue_by_currency"),
            pl.lit(1, pl.Int64).alias("sessions"),
            pl.lit('{"shoes":3,"shirts":2}').alias("category_events"),
            pl.lit('{"desktop":1,"mobile":4}').alias("device_events"),
            pl.concat_str(pl.lit("{"), cart[0], pl.lit(","), cart[1], pl.lit("}")).alias("cart_actions"),
        )
        _append(lakehouse, CUSTOMER_DAYS_TABLE, frame)
    (spec,) = (table for table in REPORT_TABLES if table.name == "gold.customer_360")
    _write_report(lakehouse, spec, [CUSTOMER_DAYS_TABLE.name], None)


def _write_days(lakehouse: LakehouseResource, days: int, events_a_day: int) -> None:
    """Days of silver.events and of the streams' tables, and the daily reports from them, a commit each."""
    import numpy as np
    import polars as pl

    for number in range(days):
        day, chance = FIRST + timedelta(days=number), np.random.default_rng(number)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)

        def times(count: int, chance: Any = chance, midnight: datetime = midnight) -> pl.Series:
            micros = np.sort(chance.integers(0, 86_400_000_000, count)) + int(midnight.timestamp()) * 1_000_000
            return pl.Series(micros).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

        def named(prefix: str, count: int, of: int, chance: Any = chance) -> pl.Series:
            return pl.select(pl.format(prefix + "-{}", pl.Series(chance.integers(0, of, count)))).to_series()

        n, users = events_a_day, CUSTOMERS_A_DAY
        kinds = chance.choice(
            ["page_view", "add_to_cart", "remove_from_cart", "purchase"], n, p=[0.85, 0.09, 0.03, 0.03]
        )
        events = pl.DataFrame(
            {
                "event_type": kinds,
                "event_time": times(n),
                "event_date": [day] * n,
                "user_id": named("user", n, users),
                "product_id": named("product", n, PRODUCTS),
                "category": named("category", n, 12),
                "device_type": chance.choice(["mobile", "desktop", "tablet"], n),
                "revenue": np.where(kinds == "purchase", chance.integers(100, 99_999, n) / 100, 0.0),
                "kafka_partition": np.arange(n, dtype="int32") % 3,
                "kafka_offset": np.arange(n) // 3,
            }
        ).with_columns(pl.format("event-{}", "kafka_offset").alias("event_id"))
        _append(lakehouse, EVENTS, events)
        n = events_a_day // 7
        starts, seconds = times(n), chance.integers(0, 3_600, n) * chance.integers(0, 2, n)
        sessions = pl.DataFrame(
            {
                "user_id": named("user", n, users),
                "session_start": starts,
                "session_date": [day] * n,
                "duration_seconds": seconds.astype(float),
                "event_count": chance.integers(1, 20, n),
                "purchase_count": chance.integers(0, 2, n),
                "revenue_by_currency": chance.choice(['{"EUR":"12.34"}', "{}"], n),
                "unique_products": chance.integers(0, 9, n),
                "device_type": chance.choice(["mobile", "desktop", "tablet"], n),
                "country": chance.choice(["DE", "FR", "US", "BR"], n),
            }
        ).with_columns(session_end=pl.col("session_start") + pl.duration(seconds="duration_seconds"))
        _append(lakehouse, SESSIONS, sessions)
        n = events_a_day // 30
        lags = chance.integers(1, 1_800, n)
        pairs = pl.DataFrame(
            {
                "view_event_id": named("view", n, n),
                "purchase_event_id": named("purchase", n, n),
                "user_id": named("user", n, users),
                "product_id": named("product", n, PRODUCTS),
                "view_time": times(n),
                "time_to_purchase_seconds": lags.astype(float),
                "device_type": chance.choice(["mobile", "desktop", "tablet"], n),
                "revenue": chance.integers(100, 99_999, n) / 100,
            }
        ).with_columns(purchase_time=pl.col("view_time") + pl.duration(seconds="time_to_purchase_seconds"))
        _append(lakehouse, VIEW_TO_PURCHASE, pairs)
    chunk = DayRange(FIRST, FIRST + timedelta(days=days - 1))
    for report in DAILY_REPORTS:
        _write_report(lakehouse, report.table, [source.table.name for source in report.inputs], chunk)


def _write_report(lakehouse: LakehouseResource, spec: TableSpec, inputs: list[str], days: DayRange | None) -> None:
    from deltalake import CommitProperties, write_deltalake

    from platform_assets.checks.recomputed.comparison import RECOMPUTATIONS
    from platform_assets.checks.recomputed.snapshots import Snapshot, collect, split_rows

    tables = {name: lakehouse.delta_table(name) for name in inputs}
    sources: Mapping[str, Snapshot] = {name: Snapshot(table) for name, table in tables.items()}
    names = [column.name for column in spec.columns]
    commit = ReportCommit(days, {name: table.version() for name, table in tables.items()})
    for day in [None] if days is None else days.days():
        for portion in split_rows(12 if day is None else 1, 1):
            rows = collect(RECOMPUTATIONS[spec.name].rows(sources, day, portion).select(names))
            write_deltalake(
                lakehouse.table_uri(spec.name),
                rows.to_arrow(),
                mode="append",
                partition_by=list(spec.partition_columns),
                commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.as_json()}),
            )


def _append(lakehouse: LakehouseResource, spec: TableSpec, frame: pl.DataFrame) -> None:
    """Appends a day; columns that the frame does not have are null."""
    import polars as pl
    from deltalake import write_deltalake

    from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table

    table = create_table(lakehouse.table_uri(spec.name), spec)
    schema = build_arrow_schema(spec)
    missing = [pl.lit(None).alias(field.name) for field in schema if field.name not in frame.columns]
    write_deltalake(table, frame.with_columns(missing).select(schema.names).to_arrow().cast(schema), mode="append")


if __name__ == "__main__":
    main()
