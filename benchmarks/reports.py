"""What a day of 10 million events costs: our two reports, and the same from raw events by DuckDB and by Polars.

The tables are made first (`benchmarks.shop_days`); the streams have paid for sessions and pairs, which is said apart.
Each engine runs in a process of its own; CPU counts all of its threads and children. All must come to the same sums.
Run: `make bench ARGS=reports` (about fifteen minutes, 3 GB of disk); `--millions 1` for a first look.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from benchmarks.shop_days import compute_days, write_events, write_stream_tables
from benchmarks.spark_usage import spark_cpu_seconds
from platform_assets.reports.days import DayRange
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.session_report import SESSION_REPORT
from platform_assets.reports.spark_engine import SparkEngine
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.spark.session import SparkResource

DAY = date(2026, 3, 2)
USERS = 300_000
_OWN_INPUTS = "gold.sessions, gold.view_to_purchase, silver.events"

_SESSIONS_SQL = """
WITH marked AS (
  SELECT *, event_time - lag(event_time) OVER w >= INTERVAL 30 MINUTE AS begins FROM events
  WINDOW w AS (PARTITION BY user_id ORDER BY event_time, kafka_partition, kafka_offset)
), numbered AS (
  SELECT *, sum(COALESCE(begins, true)::INT) OVER (
    PARTITION BY user_id ORDER BY event_time, kafka_partition, kafka_offset) AS number FROM marked
)
SELECT user_id, min(event_time)::DATE AS session_date, count(*) AS event_count,
       date_diff('microsecond', min(event_time), max(event_time)) / 1e6 AS duration_seconds,
       count(*) FILTER (WHERE event_type = 'purchase') AS purchase_count,
       sum(revenue::DECIMAL(18, 2)) FILTER (WHERE event_type = 'purchase') AS total_revenue,
       count(DISTINCT product_id) FILTER (WHERE event_type = 'page_view') AS unique_products,
       arg_min(device_type, event_time) AS device_type, arg_min(country, event_time) AS country
FROM numbered GROUP BY user_id, number
"""
_REPORT_SQL = """
SELECT session_date, device_type, country, count(*) AS sessions, count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE event_count = 1) AS bounced, count(*) FILTER (WHERE purchase_count > 0) AS converted,
       sum(total_revenue) AS revenue, avg(duration_seconds), quantile_cont(duration_seconds, [0.5, 0.9]),
       avg(event_count), avg(unique_products)
FROM sessions GROUP BY ALL
"""
_PAIRS_SQL = """
SELECT v.event_id AS view, p.event_id AS purchase, v.product_id, v.event_time AS view_time,
       p.event_time AS purchase_time, p.revenue, date_diff('microsecond', v.event_time, p.event_time) / 1e6 AS lag
FROM events v JOIN events p ON v.user_id = p.user_id AND v.product_id = p.product_id
 AND p.event_time > v.event_time AND p.event_time <= v.event_time + INTERVAL 30 MINUTE
WHERE v.event_type = 'page_view' AND p.event_type = 'purchase'
"""
_CORRELATIONS_SQL = """
WITH counts AS (
  SELECT product_id, count(*) FILTER (WHERE event_type = 'page_view') AS views,
         count(*) FILTER (WHERE event_type = 'purchase') AS purchases FROM events GROUP BY ALL
), converted AS (
  SELECT product_id, count(DISTINCT view) AS converted, quantile_cont(lag, [0.5, 0.9]) FROM pairs GROUP BY ALL
), attributed AS (
  SELECT product_id, sum(revenue::DECIMAL(18, 2)) AS revenue
  FROM (SELECT DISTINCT purchase, product_id, revenue FROM pairs) GROUP BY ALL
)
SELECT * FROM counts LEFT JOIN converted USING (product_id) LEFT JOIN attributed USING (product_id)
"""


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=10.0, help="events of the day (default: 10)")
    parser.add_argument("--engine", choices=sorted(_ENGINES), help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(_ENGINES[args.engine](LakehouseResource(root=args.root))))
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
        lakehouse = LakehouseResource(root=root)
        rows = write_events(lakehouse, DAY, 1, round(args.millions * 1e6), round(USERS * args.millions / 10))
        seconds, cpu, _ = _run("streams", root)
        print(
            f"{rows:,} events. Their sessions and pairs as one batch, for the streams: {seconds:.1f} s, {cpu:.1f} CPU-s"
        )
        print("| engine | from | seconds | CPU-s | sums |\n|---|---|---|---|---|")
        for name in ("headrace", "headrace_by_spark", "duckdb_raw", "polars_raw", "duckdb_gold", "polars_gold"):
            seconds, cpu, found = _run(name, root)
            print(f"| {name} | {found['from']} | {seconds:.1f} | {cpu:.1f} | {found['sums']} |", flush=True)
            if "start" in found:
                seconds, cpu = found["start"]
                print(f"| start of the engine, besides | | {seconds:.1f} | {cpu:.1f} | |", flush=True)


def _run(engine: str, root: str) -> tuple[float, float, dict[str, Any]]:
    """Wall and CPU seconds of the process, without its start: it says itself when its work began."""
    command = [sys.executable, "-m", "benchmarks.reports", "--engine", engine, "--root", root]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["cpu"], found


class Meter:
    """Wall and CPU seconds since it was made, of this process and, where there is one, its Spark."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), spark_cpu_seconds()

    def read(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self._began, spark_cpu_seconds() - self._used


def _measure(compute: Callable[[], Any], source: str) -> dict[str, Any]:
    meter = Meter()
    sums = compute()
    seconds, cpu = meter.read()
    return {"from": source, "seconds": seconds, "cpu": cpu, "sums": sums}


def _make_stream_tables(lakehouse: LakehouseResource) -> dict[str, Any]:
    with SparkResource(app_name="bench").running() as spark:
        return _measure(lambda: write_stream_tables(spark, lakehouse), "silver.events")


def _headrace(lakehouse: LakehouseResource) -> dict[str, Any]:
    days = DayRange(DAY, DAY)
    start = Meter()
    with DuckDBResource().connected() as connection:
        engine, started = DuckDBEngine(connection, lakehouse), start.read()
        return {**_measure(lambda: _compute_two(engine, lakehouse, days), _OWN_INPUTS), "start": started}


def _headrace_by_spark(lakehouse: LakehouseResource) -> dict[str, Any]:
    days = DayRange(DAY, DAY)
    start = Meter()
    with SparkResource(app_name="bench").running() as spark:
        engine, started = SparkEngine(lambda: spark, lakehouse), start.read()
        return {**_measure(lambda: _compute_two(engine, lakehouse, days), _OWN_INPUTS), "start": started}


def _compute_two(engine: ReportEngine, lakehouse: LakehouseResource, days: DayRange) -> list[Any]:
    for report in (SESSION_REPORT, PURCHASE_CORRELATIONS):
        compute_days(engine, lakehouse, report, days)
    sessions = lakehouse.delta_table(SESSION_REPORT.table.name).to_pyarrow_table()
    products = lakehouse.delta_table(PURCHASE_CORRELATIONS.table.name).to_pyarrow_table()
    return _sums(
        sessions["sessions"].to_pylist(), sessions["total_revenue"].to_pylist(),
        products["converted_views"].to_pylist(), products["attributed_revenue"].to_pylist(),
    )  # fmt: skip


def _sums(*columns: list[Any]) -> list[Any]:
    return [round(float(sum(value or 0 for value in column)), 2) for column in columns]


def _duckdb(lakehouse: LakehouseResource, names: tuple[str, ...], steps: tuple[tuple[str, str], ...]) -> list[Any]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in names:
            files = lakehouse.delta_table(name).file_uris()
            connection.read_parquet(files, hive_partitioning=True).create_view(name.split(".")[1])
        for name, sql in steps:
            connection.execute(f"CREATE TEMP TABLE {name} AS {sql}")
        report = connection.execute("SELECT sessions, revenue FROM report").fetchall()
        if not any(name == "correlations" for name, _ in steps):
            return _sums([row[0] for row in report], [row[1] for row in report])
        products = connection.execute("SELECT converted, revenue FROM correlations").fetchall()
        return _sums(
            [row[0] for row in report], [row[1] for row in report],
            [row[0] for row in products], [row[1] for row in products],
        )  # fmt: skip


def _duckdb_raw(lakehouse: LakehouseResource) -> dict[str, Any]:
    of_day = f"SELECT * FROM sessions_all WHERE session_date = DATE '{DAY}'"
    steps = (
        ("sessions_all", _SESSIONS_SQL), ("sessions", of_day), ("report", _REPORT_SQL),
        ("pairs", _PAIRS_SQL), ("correlations", _CORRELATIONS_SQL),
    )  # fmt: skip
    return _measure(lambda: _duckdb(lakehouse, ("silver.events",), steps), "silver.events")


def _duckdb_gold(lakehouse: LakehouseResource) -> dict[str, Any]:
    renamed = """
      SELECT view_event_id AS view, purchase_event_id AS purchase, product_id, view_time, purchase_time, revenue,
             time_to_purchase_seconds AS lag FROM view_to_purchase
    """
    steps = (("report", _REPORT_SQL), ("pairs", renamed), ("correlations", _CORRELATIONS_SQL))
    tables = ("gold.sessions", "gold.view_to_purchase", "silver.events")
    return _measure(lambda: _duckdb(lakehouse, tables, steps), "as Headrace")


def _polars(lakehouse: LakehouseResource, from_gold: bool) -> list[Any]:
    import polars as pl

    def scan(name: str) -> pl.LazyFrame:
        return pl.scan_parquet(lakehouse.delta_table(name).file_uris(), hive_partitioning=True)

    events = scan("silver.events")
    is_view, is_purchase = (pl.col("event_type") == kind for kind in ("page_view", "purchase"))
    half_hour = pl.duration(minutes=30)
    if from_gold:
        sessions = scan("gold.sessions")
        pairs = scan("gold.view_to_purchase").rename(
            {"view_event_id": "view", "purchase_event_id": "purchase", "time_to_purchase_seconds": "lag"}
        )
    else:
        begins = pl.col("event_time").diff().over("user_id").ge(half_hour).fill_null(value=True)
        sessions = (
            events.select("user_id", "event_time", "event_type", "product_id", "revenue", "device_type", "country")
            .sort("user_id", "event_time")
            .with_columns(begins.cum_sum().over("user_id").alias("number"))
            .group_by("user_id", "number")
            .agg(
                pl.len().alias("event_count"),
                is_purchase.sum().alias("purchase_count"),
                pl.col("revenue").filter(is_purchase).sum().alias("total_revenue"),
                pl.col("product_id").filter(is_view).n_unique().alias("unique_products"),
                pl.col("device_type").first(),
                pl.col("country").first(),
                ((pl.col("event_time").max() - pl.col("event_time").min()).dt.total_microseconds() / 1e6).alias(
                    "duration_seconds"
                ),
            )
        )
        views = events.filter(is_view).select("user_id", "product_id", view="event_id", view_time="event_time")
        bought = events.filter(is_purchase).select(
            "user_id", "product_id", "revenue", purchase="event_id", purchase_time="event_time"
        )
        lag = pl.col("purchase_time") - pl.col("view_time")
        pairs = (
            views.join(bought, on=["user_id", "product_id"])
            .filter((lag > pl.duration(minutes=0)) & (lag <= half_hour))
            .with_columns((lag.dt.total_microseconds() / 1e6).alias("lag"))
        )
    length = pl.col("duration_seconds")
    report = sessions.group_by("device_type", "country").agg(
        pl.len().alias("sessions"), pl.col("user_id").n_unique(), (pl.col("event_count") == 1).sum().alias("bounced"),
        (pl.col("purchase_count") > 0).sum().alias("converted"), pl.col("total_revenue").sum(), length.mean(),
        length.quantile(0.5, "linear").alias("p50"), length.quantile(0.9, "linear").alias("p90"),
        pl.col("event_count").mean().alias("avg_events"), pl.col("unique_products").mean().alias("avg_products"),
    )  # fmt: skip
    counts = events.group_by("product_id").agg(is_view.sum().alias("views"), is_purchase.sum().alias("purchases"))
    converted = pairs.group_by("product_id").agg(
        pl.col("view").n_unique().alias("converted"), pl.col("lag").quantile(0.5, "linear").alias("p50"),
        pl.col("lag").quantile(0.9, "linear").alias("p90"),
    )  # fmt: skip
    attributed = (
        pairs.select("purchase", "product_id", "revenue").unique().group_by("product_id").agg(pl.col("revenue").sum())
    )
    products = counts.join(converted, on="product_id", how="left").join(attributed, on="product_id", how="left")
    by_country, by_product = pl.collect_all([report, products])
    return _sums(
        by_country["sessions"].to_list(), by_country["total_revenue"].to_list(),
        by_product["converted"].to_list(), by_product["revenue"].to_list(),
    )  # fmt: skip


_ENGINES: dict[str, Callable[[LakehouseResource], dict[str, Any]]] = {
    "streams": _make_stream_tables,
    "headrace": _headrace,
    "headrace_by_spark": _headrace_by_spark,
    "duckdb_raw": _duckdb_raw,
    "duckdb_gold": _duckdb_gold,
    "polars_raw": lambda lakehouse: _measure(lambda: _polars(lakehouse, from_gold=False), "silver.events"),
    "polars_gold": lambda lakehouse: _measure(lambda: _polars(lakehouse, from_gold=True), "as Headrace"),
}

if __name__ == "__main__":
    main()
