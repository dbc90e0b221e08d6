"""The check that a table equals its stream's twin: green over what was written, red over every way to break it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from deltalake import DeltaTable

from platform_assets.checks.parity import build_parity_checks, find_start
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import event
from tests.spark.test_streams_over_events import CLOSER, STREAMS, arrive

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

FIRST = [
    *(event(f"u{n}", NOON + n * MINUTE) for n in range(40)),
    *(event(f"u{n}", NOON + n * MINUTE + MINUTE / 2, "purchase", revenue=60.0 * n) for n in range(40)),
    event("u0", NOON + timedelta(hours=2), "add_to_cart"),
]
LATE = [event("u1", NOON + 3 * MINUTE, "purchase", revenue=500.0), event("u2", NOON - MINUTE)]


@pytest.fixture(scope="module")
def written(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lakehouse as the streams left it, late events repaired."""
    root = tmp_path_factory.mktemp("written")
    arrive(spark, LakehouseResource(root=str(root)), [FIRST, LATE, [CLOSER]])
    yield root
    shutil.rmtree(root)


def run_check(spark: SparkSession, root: Path, name: str) -> dg.AssetCheckResult:
    (check,) = build_parity_checks([STREAMS[name]])
    resources = {"lakehouse": LakehouseResource(root=str(root)), "spark": SimpleNamespace(spark_session=spark)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


@pytest.mark.parametrize("name", STREAMS)
def test_what_the_streams_and_repairs_wrote_equals_the_twin(spark: SparkSession, written: Path, name: str) -> None:
    verdict = run_check(spark, written, name)
    assert verdict.passed, verdict.description
    assert verdict.metadata["compared_rows"].value == len(_open(written, name).to_pyarrow_table()) > 0


@pytest.mark.parametrize(
    ("name", "break_table"),
    [
        ("revenue_by_category", lambda table: table.delete("total_revenue = 60.0")),
        (
            "high_value_users",
            lambda table: table.update({"total_spent": "0.0"}, predicate="user_id = 'u9'"),
        ),
        ("conversion_funnel", lambda table: table.update({"purchasers": "0"}, predicate="purchasers = 1")),
        ("sessions", lambda table: table.update({"event_count": "7"}, predicate="user_id = 'u1'")),
        ("view_to_purchase", lambda table: table.delete("user_id = 'u3'")),
    ],
)
def test_a_table_that_was_changed_is_found_out(
    spark: SparkSession, written: Path, tmp_path: Path, name: str, break_table: Callable[[DeltaTable], object]
) -> None:
    shutil.copytree(written, tmp_path / "broken")
    table = _open(tmp_path / "broken", name)
    version = table.version()
    break_table(table)
    assert _open(tmp_path / "broken", name).version() > version, "the test changed nothing"
    verdict = run_check(spark, tmp_path / "broken", name)
    assert not verdict.passed
    assert "differences in" in str(verdict.description)


def test_nothing_final_yet_is_no_failure(spark: SparkSession, tmp_path: Path) -> None:
    assert run_check(spark, tmp_path, "sessions").passed


def test_only_the_newest_events_are_read_when_there_are_too_many(spark: SparkSession, written: Path) -> None:
    uri = LakehouseResource(root=str(written)).table_uri("silver.events")
    version = DeltaTable(uri).version()
    assert find_start(spark, uri, version, 1_000_000) is None
    assert find_start(spark, uri, version, 2) == datetime(2024, 2, 29, 13, tzinfo=UTC)


def test_every_stream_over_a_table_is_checked() -> None:
    assert {key.asset_key.path[-1] for check in build_parity_checks(load_streams()) for key in check.check_keys} == {
        *STREAMS
    }


def _open(root: Path, name: str) -> DeltaTable:
    return LakehouseResource(root=str(root)).delta_table(STREAMS[name].main_table.name)
