"""gold.session_report: against DuckDB, and by day as by range."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import duckdb
import pytest
from hypothesis import given

from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS_TABLE
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.session_report import SESSION_REPORT, SESSION_REPORT_TABLE
from platform_assets.streams import sessions
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.money_oracle import Money, add_up
from tests.spark.report_cases import (
    Event,
    append_events,
    apply_rule,
    compute_by_both_engines,
    event,
    events_table,
    read_rows,
    rounded,
    run_reports,
    shops,
    write_stream_tables,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAYS = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

ORACLE = """
SELECT session_date AS report_date, device_type, country, count(*) AS sessions, count(DISTINCT user_id) AS users,
       sum((event_count = 1)::INT)::BIGINT AS bounced_sessions, avg((event_count = 1)::INT) AS bounce_rate,
       sum((purchase_count > 0)::INT)::BIGINT AS converted_sessions, avg((purchase_count > 0)::INT) AS conversion_rate,
       avg(duration_seconds) AS avg_duration_seconds,
       quantile_cont(duration_seconds, 0.5) AS p50_duration_seconds,
       quantile_cont(duration_seconds, 0.9) AS p90_duration_seconds,
       avg(event_count) AS avg_events, avg(unique_products) AS avg_products,
       sum(purchases_without_amount)::BIGINT AS purchases_without_amount
FROM sessions GROUP BY ALL ORDER BY ALL
"""


def money_of(report: list[dict[str, Any]]) -> dict[tuple[Any, ...], Money]:
    return {
        tuple(row[name] for name in SESSION_REPORT_TABLE.key): Money(
            row["total_revenue"], row["currency"], row["revenue_by_currency"], row["purchases_without_amount"]
        )
        for row in report
    }


def add_up_money(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Money]:
    """The oracle: as if each session's sum of a currency were one purchase, and each unknown one too."""
    purchases: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        sums = [{"currency": c, "revenue": float(s)} for c, s in json.loads(row["revenue_by_currency"]).items()]
        unknown = [{"revenue": None}] * row["purchases_without_amount"]
        purchases[row["session_date"], row["device_type"], row["country"]] += [*sums, *unknown]
    return {key: add_up(own) for key, own in purchases.items()}


@examples(3)
@given(shops())
def test_the_report_equals_the_same_question_asked_in_other_words(spark: SparkSession, events: list[Event]) -> None:
    rows = apply_rule(sessions.STREAM, events_table(events))
    report = compute_by_both_engines(spark, SESSION_REPORT.sql, sessions=rows)
    assert report.column_names == [column.name for column in SESSION_REPORT_TABLE.columns]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("sessions", rows)
        connection.register("report", report)
        oracle = connection.execute(ORACLE)
        names = ", ".join(column[0] for column in oracle.description or ())
        expected = oracle.fetchall()
        actual = connection.execute(f"SELECT {names} FROM report ORDER BY ALL").fetchall()
        hours = connection.execute(
            "SELECT session_date, hour(session_start), count(*) FROM sessions GROUP BY ALL"
        ).fetchall()
    assert SESSION_REPORT.picture is not None
    assert money_of(report.to_pylist()) == add_up_money(rows.to_pylist())
    rows_by_hour = compute_by_both_engines(spark, SESSION_REPORT.picture.sql, sessions=rows).to_pylist()
    assert [row[:3] for row in actual] == [row[:3] for row in expected]
    for got, wanted in zip(actual, expected, strict=True):
        assert got[3:] == pytest.approx(wanted[3:], rel=1e-12)
    assert sorted((row["day"], row["position"], row["n"]) for row in rows_by_hour) == sorted(hours)


def test_one_backfill_over_a_range_equals_runs_day_by_day(tmp_path: Path) -> None:
    events = [
        event(f"u{n % 7}", NOON - timedelta(hours=30) + timedelta(minutes=17 * n), kind, f"p{n % 3}")
        for n in range(150)
        for kind in ("page_view", *(["purchase"] if n % 4 == 0 else []))
    ]
    tables = (SESSION_REPORT_TABLE, PURCHASE_CORRELATIONS_TABLE)
    whole, by_day = (LakehouseResource(root=str(tmp_path / name)) for name in ("whole", "by_day"))
    append_events(whole, events)
    write_stream_tables(whole)
    shutil.copytree(whole.root, by_day.root)
    result = run_reports(whole, "2024-02-28", "2024-03-01", only=tables)
    for day in ("2024-03-01", "2024-02-28", "2024-02-29"):
        run_reports(by_day, day, only=tables)
    for table in tables:
        rows = read_rows(whole, table.name)
        assert rows
        assert rows == read_rows(by_day, table.name)

    written = [e.step_materialization_data.materialization for e in result.get_asset_materialization_events()]
    for name, picture in (("session_report", "sessions_by_hour"), ("purchase_correlations", "lag_distribution")):
        of_report = [m for m in written if m.asset_key.path[-1] == name]
        assert [m.partition for m in of_report] == [str(day) for day in DAYS]
        table_rows = read_rows(whole, f"gold.{name}")
        assert [m.metadata["dagster/row_count"].value for m in of_report] == [
            sum(row["report_date"] == day for row in table_rows) for day in DAYS
        ]
        for materialization in of_report:
            metadata = materialization.metadata
            assert metadata["dagster/table_name"].value == f"gold.{name}"
            assert str(metadata[picture].value).startswith("![")
            assert "| report_date |" in str(metadata["preview"].value)
            assert metadata["headrace/state"].value == "provisional"


def test_spark_as_the_engine_writes_the_same_days(spark: SparkSession, tmp_path: Path) -> None:
    events = [
        event(f"u{n % 7}", NOON - timedelta(hours=30) + timedelta(minutes=97 * n), "page_view") for n in range(30)
    ]
    events += [event(f"u{n}", NOON + timedelta(minutes=n), "purchase", revenue=1.005) for n in range(5)]
    shop = LakehouseResource(root=str(tmp_path / "shop"))
    append_events(shop, events)
    write_stream_tables(shop)
    both = {name: LakehouseResource(root=str(tmp_path / name / "lakehouse")) for name in get_args(EngineName)}
    tables = (SESSION_REPORT_TABLE, PURCHASE_CORRELATIONS_TABLE)
    for engine, lakehouse in both.items():
        shutil.copytree(shop.root, lakehouse.root)
        session = spark if engine == "spark" else None
        assert run_reports(lakehouse, "2024-02-29", only=tables, spark=session).success
    for table in tables:
        by_duckdb, by_spark = (rounded(both[name].delta_table(table.name).to_pyarrow_table()) for name in both)
        assert by_duckdb
        assert by_duckdb == by_spark
