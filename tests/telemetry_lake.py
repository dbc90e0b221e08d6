"""Readings in a table, and the reports over them: what the tests of telemetry's reports share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import dagster as dg
import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.checks.recomputed.comparison import RECOMPUTATIONS
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot
from platform_assets.reports import assets
from platform_assets.reports.days import DayRange
from platform_assets.reports.early_warning_scores import EARLY_WARNING_SCORES
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.telemetry_anomalies import TELEMETRY_ANOMALIES
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.telemetry import TELEMETRY, UNITS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import PARTITIONS, run_reports
from tests.spark.telemetry_cases import MINUTE, Reading, reading, telemetry_table

Row = dict[str, Any]

DAY = date(2024, 2, 29)
MIDNIGHT = datetime(2024, 2, 29, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
REPORTS = (TELEMETRY_ANOMALIES, EARLY_WARNING_SCORES)
ASSETS = {engine: assets.build_report_assets(REPORTS, PARTITIONS, engine) for engine in get_args(EngineName)}


def write(lakehouse: LakehouseResource, readings: Sequence[Reading], first_offset: int = 0) -> None:
    table = create_table(lakehouse.table_uri(TELEMETRY.name), TELEMETRY)
    write_deltalake(table, telemetry_table(readings, first_offset), mode="append")


def run(
    lakehouse: LakehouseResource, first: date = DAY, last: date | None = None, **options: Any
) -> dg.ExecuteInProcessResult:
    """Both reports of these days, from what silver.telemetry holds."""
    return run_reports(lakehouse, str(first), None if last is None else str(last), assets=ASSETS, **options)


def ask_sql(sql: str, readings: pa.Table, spec: TableSpec, first: date = DAY, last: date = DAY) -> list[Row]:
    """A report's rows of these days by DuckDB, as its table has them."""
    days = DayRange(first, last)
    names = ", ".join(column.name for column in spec.columns)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("telemetry", readings)
        connection.execute(f"CREATE TEMP VIEW report_days AS {days.relation()}")
        found = connection.sql(f"SELECT {names} FROM ({sql}) WHERE {days.predicate('report_date')}").to_arrow_table()
    return in_order(spec, found.cast(build_arrow_schema(spec)).to_pylist())


def recompute(lakehouse: LakehouseResource, spec: TableSpec, day: date = DAY, portions: int = 1) -> list[Row]:
    """The same once more, as the check `consistency` computes it."""
    sources = {TELEMETRY.name: Snapshot(lakehouse.delta_table(TELEMETRY.name), TELEMETRY)}
    how = RECOMPUTATIONS[spec.name].rows
    rows = [row for n in range(portions) for row in how(sources, day, Portion(n, portions)).collect().to_dicts()]
    return in_order(spec, rows)


def in_order(spec: TableSpec, rows: Sequence[Row]) -> list[Row]:
    plain = [{name: v.astimezone(UTC) if isinstance(v, datetime) else v for name, v in row.items()} for row in rows]
    return sorted(plain, key=lambda row: tuple(str(row[name]) for name in spec.key))


def tell_history(chance: random.Random, channels: int = 6) -> list[Reading]:
    """Ten days of some sensors in any order: levels that change, stick and jump, silences, bad values, repetitions."""
    kinds = [kind for kind in sorted(UNITS) if kind != "oxygen_flow"]
    found = []
    for number in range(channels):
        kind = chance.choice(kinds)
        unit = chance.choice(UNITS[kind])
        level = chance.choice([0.0, 15.0, 38.0, 60.0, 97.0])
        time = MIDNIGHT - chance.randrange(3, 9) * ONE_DAY + chance.randrange(3600) * timedelta(seconds=1)
        while time < MIDNIGHT + 2 * ONE_DAY:
            near = time > MIDNIGHT - 3 * HOUR
            time += chance.choice([4, 6, 9] if near else [25, 45, 60]) * MINUTE
            if chance.random() < 0.02:
                time += chance.choice([1, 5, 30]) * HOUR
            if chance.random() < 0.04:
                level += chance.choice([-40.0, -6.0, 5.0, 45.0])
            noise = 0.0 if chance.random() < 0.6 else chance.choice([-1.0, 0.25, 0.5, 30.0])
            quality = chance.choice(["good", "good", "uncertain", None, "bad"])
            place = chance.choice(["a", "b", None])
            each = reading(f"s{number % 4}", time, level + noise, kind, unit, quality, place)
            found += [each] * (2 if chance.random() < 0.05 else 1)
            if chance.random() < 0.05:
                found.append(each | {"value": level, "quality": "good"})
    chance.shuffle(found)
    return found
