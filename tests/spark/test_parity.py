"""The check that a table equals its rule, or its twin: green over what was written, red over every way to break it."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks.parity import build_parity_checks, compare
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streams import load_streams
from platform_assets.tables.platform import LATE_EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import event, read_rows
from tests.spark.streams_over_table import in_order
from tests.spark.test_streams_over_events import CLOSER, STREAMS, arrive, ask_rule

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

FIRST = [
    *(event(f"u{n}", NOON + n * MINUTE) for n in range(40)),
    *(event(f"u{n}", NOON + n * MINUTE + MINUTE / 2, "purchase", revenue=60.0 * n) for n in range(40)),
    event("u0", NOON + timedelta(hours=2), "add_to_cart"),
]
LONG = pytest.mark.long
QUICK = ("sessions", "revenue_by_category")
ONE_OF_ALL = [pytest.param(name, marks=() if name == "sessions" else LONG) for name in STREAMS]
ENGINES: tuple[EngineName, ...] = ("duckdb", "spark")
LATE = [event("u1", NOON + 3 * MINUTE, "purchase", revenue=500.0), event("u2", NOON - MINUTE)]


@pytest.fixture(scope="module")
def of_streams(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a lakehouse as the streams of these names left it, late events repaired; once for each choice."""

    @functools.cache
    def write(*names: str) -> Path:
        root = tmp_path_factory.mktemp("written")
        arrive(spark, LakehouseResource(root=str(root)), [FIRST, [*LATE, CLOSER]], names)
        return root

    return write


@pytest.fixture
def written(of_streams: Callable[..., Path], name: str) -> Path:
    """`make test` asks for two streams, whose repairs differ; `make test-long` for the others."""
    return of_streams(*(QUICK if name in QUICK else STREAMS))


@pytest.fixture
def name() -> str:
    """The stream that is looked at, unless a test has it as a parameter."""
    return QUICK[0]


def run_check(spark: SparkSession, root: Path | str, name: str, engine: EngineName = "duckdb") -> dg.AssetCheckResult:
    (check,) = build_parity_checks([STREAMS[name]], engine)
    needed = {"lakehouse", engine}
    resources = {key: resource for key, resource in build_resources(spark, root).items() if key in needed}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def build_resources(spark: SparkSession, root: Path | str) -> dict[str, Any]:
    duckdb, lakehouse = DuckDBResource(memory_mib=256), LakehouseResource(root=str(root))
    return {"duckdb": duckdb, "lakehouse": lakehouse, "spark": SimpleNamespace(spark_session=spark)}


@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(STREAMS), marks=LONG, id="all")])
def test_what_the_streams_and_repairs_wrote_equals_the_rules(
    of_streams: Callable[..., Path], names: tuple[str, ...]
) -> None:
    lakehouse = LakehouseResource(root=str(of_streams(*names)))
    late = read_rows(lakehouse, LATE_EVENTS.name)
    assert {row["query"] for row in late} == set(names) and all(row["repaired_at"] is not None for row in late)
    for name in names:
        rows = in_order(STREAMS[name], read_rows(lakehouse, STREAMS[name].main_table.name))
        assert rows == ask_rule(name, [*FIRST, *LATE]), name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ONE_OF_ALL)
def test_what_the_streams_and_repairs_wrote_passes(
    spark: SparkSession, written: Path, name: str, engine: EngineName
) -> None:
    verdict = run_check(spark, written, name, engine)
    assert verdict.passed, verdict.description
    assert verdict.metadata["compared_rows"].value == len(_open(written, name).to_pyarrow_table()) > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "break_table"),
    [
        ("sessions", lambda table: table.update({"event_count": "7"}, predicate="user_id = 'u1'")),
        pytest.param("revenue_by_category", lambda table: table.delete("total_revenue = 60.0"), marks=LONG),
        pytest.param(
            "high_value_users",
            lambda table: table.update({"total_spent": "0.0"}, predicate="user_id = 'u9'"),
            marks=LONG,
        ),
        pytest.param(
            "conversion_funnel",
            lambda table: table.update({"purchasers": "0"}, predicate="purchasers = 1"),
            marks=LONG,
        ),
        pytest.param("view_to_purchase", lambda table: table.delete("user_id = 'u3'"), marks=LONG),
    ],
)
def test_a_table_that_was_changed_is_found_out(
    spark: SparkSession,
    written: Path,
    tmp_path: Path,
    name: str,
    break_table: Callable[[DeltaTable], object],
    engine: EngineName,
) -> None:
    shutil.copytree(written, tmp_path / "broken")
    table = _open(tmp_path / "broken", name)
    version = table.version()
    break_table(table)
    assert _open(tmp_path / "broken", name).version() > version, "the test changed nothing"
    verdict = run_check(spark, tmp_path / "broken", name, engine)
    assert not verdict.passed
    assert "differences in" in str(verdict.description)


@pytest.mark.parametrize("engine", ENGINES)
def test_events_that_somebody_has_changed_are_found_out_without_new_ones(
    spark: SparkSession, written: Path, tmp_path: Path, name: str, engine: EngineName
) -> None:
    shutil.copytree(written, tmp_path / "broken")
    events = LakehouseResource(root=str(tmp_path / "broken")).delta_table("silver.events")
    events.update({"event_time": "event_time + interval '2 minutes'"}, predicate="user_id = 'u7'")
    events.optimize.compact()
    assert not run_check(spark, tmp_path / "broken", name, engine).passed


def test_a_row_of_a_time_to_come_is_found_out(spark: SparkSession, written: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(written, tmp_path / "broken")
    table = _open(tmp_path / "broken", name)
    rows = table.to_pyarrow_table().slice(0, 1)
    for column in (STREAMS[name].span.start_column, STREAMS[name].span.end_column):
        place = rows.schema.get_field_index(column)
        times = pa.array([datetime(2030, 1, 1, tzinfo=UTC)], rows.schema.field(place).type)
        rows = rows.set_column(place, rows.schema.field(place), times)
    write_deltalake(table, rows, mode="append")
    assert not run_check(spark, tmp_path / "broken", name).passed


def test_nothing_final_yet_is_no_failure(spark: SparkSession, tmp_path: Path) -> None:
    assert run_check(spark, tmp_path, "sessions").passed


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_newest_events_are_compared_when_there_are_too_many(
    spark: SparkSession, written: Path, name: str, engine: EngineName
) -> None:
    lakehouse = LakehouseResource(root=str(written))
    state = read_complete_until(lakehouse.table_uri("platform.complete_until"), name)
    assert state is not None
    resources = SimpleNamespace(**build_resources(spark, written))
    everything = compare(resources, STREAMS[name], state, engine)
    assert everything.start is None and everything.rows > 0
    newest = compare(resources, STREAMS[name], state, engine, max_events=2)
    assert newest.start == datetime(2024, 2, 29, 13, tzinfo=UTC)
    assert newest.rows < everything.rows and newest.differences == everything.differences == 0


def test_every_stream_over_a_table_is_checked() -> None:
    checks = build_parity_checks(load_streams(), "duckdb")
    assert {key.asset_key.path[-1] for check in checks for key in check.check_keys} == {*STREAMS}


def _open(root: Path, name: str) -> DeltaTable:
    return LakehouseResource(root=str(root)).delta_table(STREAMS[name].main_table.name)
