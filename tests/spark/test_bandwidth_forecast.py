"""gold.bandwidth_forecast: against plain Python, by both engines, its checks, and days of which nothing is known."""

from __future__ import annotations

import math
import random
import shutil
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.report_consistency import build_report_consistency_checks
from platform_assets.checks.schema_contract import build_schema_contract_checks
from platform_assets.reports import assets
from platform_assets.reports.bandwidth_forecast import BANDWIDTH_FORECAST, BANDWIDTH_FORECAST_TABLE, HISTORY
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE
from platform_assets.tables.spec import Column
from platform_assets.topics.access_logs import ACCESS_LOGS
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.log_cases import logs_table, request
from tests.spark.report_cases import PARTITIONS, compute_by_both_engines, read_rows, run_reports

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPEC = BANDWIDTH_FORECAST_TABLE
# A Sunday.
LAST = date(2024, 3, 31)
ASSETS = {
    engine: assets.build_report_assets([BANDWIDTH_FORECAST], PARTITIONS, engine) for engine in get_args(EngineName)
}
Sums = Mapping[tuple[str | None, date], Mapping[int, int]]
Doubles = Mapping[tuple[str | None, date], Mapping[int, float]]


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def minute_row(host: str | None, start: datetime, size: int) -> dict[str, Any]:
    return {
        "window_start": start, "window_end": start + timedelta(minutes=1), "host": host, "requests": 1,
        "client_errors": 0, "server_errors": 0, "bytes_sent": Decimal(size),
    }  # fmt: skip


def as_minutes(sums: Sums) -> list[dict[str, Any]]:
    """Rows of gold.traffic_by_minute: each hour in two minutes."""
    return [
        minute_row(host, at(day, hour, minute), part)
        for (host, day), hours in sums.items()
        for hour, size in hours.items()
        for minute, part in ((0, size // 3), (59, size - size // 3))
    ]


def as_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), build_arrow_schema(TRAFFIC_BY_MINUTE))


def foretell(sums: Doubles, host: str | None, day: date, hour: int) -> tuple[float, int] | None:
    """The oracle's forecast of one hour, and of how many days it is the median."""
    known = {
        ago: sums[host, before].get(hour, 0) for ago in range(1, 22) if (host, before := day - timedelta(ago)) in sums
    }
    weekly = [known[ago] for ago in (7, 14, 21) if ago in known]
    daily = [known[ago] for ago in range(1, 8) if ago in known]
    if not daily:
        return None
    chosen = weekly if len(weekly) == 3 else daily
    return float(statistics.median(chosen)), len(chosen)


def ask_python(known: Sums, day: date) -> dict[tuple[str | None, int], dict[str, Any]]:
    """The oracle: the report's rows of one day, hour by hour. Sums are doubles, as the report has them."""
    sums = {key: {hour: float(size) for hour, size in hours.items()} for key, hours in known.items()}
    found = {}
    for host in {host for host, _ in sums}:
        for hour in range(24):
            if (forecast := foretell(sums, host, day + timedelta(1), hour)) is None:
                continue
            errors: dict[str, list[float]] = defaultdict(list)
            for back in range(14):
                measured = day - timedelta(back)
                earlier = foretell(sums, host, measured, hour)
                naive = sums.get((host, measured - timedelta(1)))
                if (host, measured) in sums and earlier is not None and naive is not None:
                    actual = sums[host, measured].get(hour, 0)
                    errors["mean"].append(actual)
                    errors["error"].append(abs(actual - earlier[0]))
                    errors["naive"].append(abs(actual - naive.get(hour, 0)))
            of_day = sums.get((host, day))
            found[host, hour] = {
                "expected_bytes": forecast[0], "known_days": forecast[1],
                "naive_bytes": None if of_day is None else float(of_day.get(hour, 0)),
                "measured_days": len(errors["mean"]),
                "mean_error_bytes": statistics.fmean(errors["error"]) if errors["error"] else None,
                "naive_error_bytes": statistics.fmean(errors["naive"]) if errors["naive"] else None,
                "mean_bytes": statistics.fmean(errors["mean"]) if errors["mean"] else None,
            }  # fmt: skip
    return found


def assert_equal(rows: Sequence[dict[str, Any]], expected: Mapping[tuple[str | None, int], dict[str, Any]]) -> None:
    found = {(row["host"], row["hour"]): row for row in rows}
    assert found.keys() == expected.keys() and len(found) == len(rows)
    for key, wanted in expected.items():
        for name, value in wanted.items():
            assert found[key][name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name


def draw_weeks(
    seed: int, days: int = HISTORY + 1, hosts: Sequence[str | None] = ("a", None), holes: float = 0.0
) -> Sums:
    """Weeks that end with `LAST`: busy evenings, quiet weekends, chance; some days of which nothing came."""
    chance = random.Random(seed)
    sums = {}
    for host in hosts:
        for number in range(days):
            day = LAST - timedelta(number)
            if chance.random() < holes:
                continue
            level = (0.5 if day.weekday() >= 5 else 1.2) * 1_000_000
            sums[host, day] = {
                hour: round(level * (1 + 0.6 * math.cos((hour - 20) / 12 * math.pi)) * chance.lognormvariate(0, 0.2))
                for hour in range(24)
                if chance.random() > holes / 2
            }
    return sums


@st.composite
def sparse_weeks(draw: st.DrawFn) -> Sums:
    """Few days of few hosts, on any of the days that matter."""
    days = st.integers(0, HISTORY).map(lambda back: LAST - timedelta(back))
    keys = draw(st.lists(st.tuples(st.sampled_from(["a", "b", None]), days), min_size=1, max_size=40, unique=True))
    hours = st.dictionaries(st.sampled_from([0, 5, 23]), st.integers(0, 2**63 - 1), min_size=1)
    return {key: draw(hours) for key in keys}


@examples(20)
@given(sparse_weeks())
def test_the_report_equals_plain_python(sums: Sums) -> None:
    assert_report_equals_plain_python(sums)


def test_two_sums_that_are_one_double_do_not_differ() -> None:
    assert_report_equals_plain_python({("a", LAST - timedelta(back)): {0: 2**63 - 2 + back} for back in (0, 1)})


def assert_report_equals_plain_python(sums: Sums) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("traffic_by_minute", as_table(as_minutes(sums)))
        rows = connection.sql(BANDWIDTH_FORECAST.sql).to_arrow_table().to_pylist()
    for day in (LAST, LAST - timedelta(1), LAST - timedelta(9)):
        until = {key: hours for key, hours in sums.items() if key[1] <= day}
        assert_equal([row for row in rows if row["report_date"] == day], ask_python(until, day))


def test_both_engines_foretell_the_same(spark: SparkSession) -> None:
    sums = draw_weeks(3, holes=0.2)
    report = compute_by_both_engines(spark, BANDWIDTH_FORECAST.sql, traffic_by_minute=as_table(as_minutes(sums)))
    assert report.column_names == [column.name for column in SPEC.columns]
    assert_equal([row for row in report.to_pylist() if row["report_date"] == LAST], ask_python(sums, LAST))


def write(lakehouse: LakehouseResource, sums: Sums) -> None:
    """Both tables: a line for each hour, and its minutes."""
    lines = [request(at(day, hour), host=host) for (host, day), hours in sums.items() for hour in hours]
    table = create_table(lakehouse.table_uri(ACCESS_LOGS.name), ACCESS_LOGS)
    write_deltalake(table, logs_table(lines), mode="append")
    table = create_table(lakehouse.table_uri(TRAFFIC_BY_MINUTE.name), TRAFFIC_BY_MINUTE)
    write_deltalake(table, as_table(as_minutes(sums)), mode="append")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with the report of two days, of which all checks have passed."""
    root = tmp_path_factory.mktemp("forecast")
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    sums = draw_weeks(5, days=HISTORY + 2, holes=0.1)
    write(lakehouse, sums)
    checks = [*build_report_consistency_checks([SPEC]), *build_schema_contract_checks([SPEC])]
    first, last = str(LAST - timedelta(1)), str(LAST)
    verdicts = run_reports(lakehouse, first, last, assets=ASSETS, checks=checks).get_asset_check_evaluations()
    assert [(v.check_name, v.description) for v in verdicts if not v.passed] == []
    for day in (LAST - timedelta(1), LAST):
        rows = [row for row in read_rows(lakehouse, SPEC.name) if row["report_date"] == day]
        assert_equal(rows, ask_python({key: hours for key, hours in sums.items() if key[1] <= day}, day))
    return root


@pytest.mark.parametrize("column", SPEC.columns[1:], ids=lambda column: column.name)
def test_the_consistency_check_finds_one_wrong_value_in_any_column(
    written: Path, tmp_path: Path, column: Column
) -> None:
    shutil.copytree(written / "lakehouse", tmp_path / "lakehouse")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    wrong = {
        "bigint": f"{column.name} + 1", "int": f"{column.name} + 24", "double": f"{column.name} * 1.000001",
        "string": f"concat({column.name}, 'x')",
    }[column.type]  # fmt: skip
    changed = lakehouse.delta_table(SPEC.name).update(
        {column.name: wrong}, predicate=f"host = 'a' and hour = 20 and report_date = date '{LAST}'"
    )
    assert changed["num_updated_rows"] == 1
    (check,) = build_report_consistency_checks([SPEC])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert not verdict.passed
    assert "2 differing rows" in str(verdict.description)


def test_a_day_of_weeks_ago_that_changes_has_the_forecast_recomputed(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "lakehouse", tmp_path / "lakehouse")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))

    def run() -> int:
        run_reports(lakehouse, str(LAST), assets=ASSETS)
        return lakehouse.delta_table(SPEC.name).version()

    version = run()
    for back, is_read in ((HISTORY + 1, False), (HISTORY, True)):
        write(lakehouse, {("a", LAST - timedelta(back)): {7: 10}})
        assert (run() > version) == is_read
        version = lakehouse.delta_table(SPEC.name).version()


@pytest.mark.parametrize("seed", range(3))
def test_forecasts_are_better_than_the_day_before(seed: int) -> None:
    found = ask_python(draw_weeks(seed, hosts=["a"]), LAST).values()
    error, naive = (sum(row[name] for row in found) for name in ("mean_error_bytes", "naive_error_bytes"))
    assert error < 0.8 * naive
