"""The consistency checks: green over what the assets wrote, red over every way of breaking it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from platform_assets.checks.report_consistency import (
    build_report_consistency_checks,
    find_inconsistencies,
    find_newest_report_commit,
)
from platform_assets.checks.schema_contract import build_schema_contract_checks, find_contract_breaches
from platform_assets.reports import REPORT_TABLES
from platform_assets.streams.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import HALF_HOUR, MICROSECOND, append_events, event, materialize_days

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)

EVENT_LIST = [
    event("before", MIDNIGHT - timedelta(days=1, minutes=10)),
    event("before", MIDNIGHT - timedelta(days=1) + timedelta(minutes=10), "purchase", revenue=1.005),
    *(event(f"u{n}", NOON + timedelta(minutes=7 * n), product_id=f"p{n % 2}") for n in range(6)),
    event("u0", NOON + HALF_HOUR - MICROSECOND, "purchase", "p0", 19.99),
    event("u1", NOON + timedelta(minutes=7) + HALF_HOUR, "purchase", "p1", 0.125),
    event("u2", NOON + timedelta(hours=3), "purchase", None, 5.0),
    event("u0", NOON + timedelta(hours=4), "purchase", "p9", 1.0),
    event("night", MIDNIGHT - timedelta(minutes=5)),
    event("night", MIDNIGHT + timedelta(minutes=5), "purchase", revenue=3.0),
    event("night", MIDNIGHT + timedelta(minutes=20)),
]


@pytest.fixture(scope="module")
def written(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A lakehouse with the reports of one day, and the run with the checks' verdicts."""
    root = tmp_path_factory.mktemp("written")
    lakehouse = LakehouseResource(root=str(root))
    append_events(spark, lakehouse, EVENT_LIST)
    checks = [
        *build_report_consistency_checks(REPORT_TABLES),
        *build_schema_contract_checks(REPORT_TABLES),
    ]
    yield root, materialize_days(spark, lakehouse, "2024-02-29", checks=checks)
    shutil.rmtree(root)


def test_all_checks_pass_in_the_run_that_writes_the_reports(written: tuple[Path, Any]) -> None:
    root, result = written
    verdicts: list[dg.AssetCheckEvaluation] = result.get_asset_check_evaluations()
    assert len(verdicts) == 2 * len(REPORT_TABLES)
    assert [(v.asset_key, v.check_name, v.description) for v in verdicts if not v.passed] == []
    assert find_contract_breaches(LakehouseResource(root=str(root)).delta_table(EVENTS.name), EVENTS) == []


def delete(predicate: str) -> Callable[[DeltaTable], object]:
    return lambda table: table.delete(predicate)


def update(column: str, value: str, predicate: str) -> Callable[[DeltaTable], object]:
    return lambda table: table.update({column: value}, predicate=predicate)


@pytest.mark.parametrize(
    ("name", "break_table"),
    [
        ("gold.session_report", delete("sessions > 0")),
        ("gold.session_report", update("sessions", "sessions + 1", "sessions > 0")),
        ("gold.session_report", update("users", "users - 1", "users > 0")),
        ("gold.session_report", update("total_revenue", "total_revenue + 0.01", "users > 0")),
        ("gold.purchase_correlations", delete("product_id = 'p0'")),
        ("gold.purchase_correlations", update("views", "views + 1", "product_id = 'p0'")),
        ("gold.purchase_correlations", update("converted_views", "0", "product_id = 'p1'")),
        ("gold.purchase_correlations", update("attributed_revenue", "0.0", "product_id = 'p0'")),
        ("gold.purchase_devices", update("device_type", "'tv'", "product_id = 'p0'")),
        ("gold.purchase_devices", update("attributed_purchases", "0", "product_id = 'p1'")),
        ("gold.customer_days", update("purchases", "purchases + 1", "user_id = 'u0'")),
        ("gold.customer_days", update("last_event_at", "first_event_at", "user_id = 'u0'")),
        ("gold.customer_360", update("purchases", "purchases + 1", "user_id = 'u0'")),
        ("gold.customer_360", update("open_cart_products", "9", "user_id = 'u0'")),
        ("gold.product_affinity", delete("product_id = 'p0'")),
        ("gold.product_affinity", update("shared_baskets", "shared_baskets + 1", "product_id = 'p0'")),
        ("gold.product_affinity", update("other_baskets", "2", "product_id = 'p9'")),
    ],
)
def test_the_consistency_check_fails_when_a_report_was_changed(
    written: tuple[Path, Any], tmp_path: Path, name: str, break_table: Callable[[DeltaTable], object]
) -> None:
    shutil.copytree(written[0], tmp_path / "broken")
    lakehouse = LakehouseResource(root=str(tmp_path / "broken"))
    version = lakehouse.delta_table(name).version()
    break_table(lakehouse.delta_table(name))
    assert lakehouse.delta_table(name).version() > version, "the test changed nothing"

    (spec,) = (table for table in REPORT_TABLES if table.name == name)
    (check,) = build_report_consistency_checks([spec])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert not verdict.passed
    assert "differing rows" in str(verdict.description)


def test_later_events_do_not_make_a_report_inconsistent_with_what_it_read(
    spark: SparkSession, written: tuple[Path, Any], tmp_path: Path
) -> None:
    shutil.copytree(written[0], tmp_path / "later")
    lakehouse = LakehouseResource(root=str(tmp_path / "later"))
    append_events(spark, lakehouse, [event("u0", NOON + timedelta(minutes=1))], first_offset=100)
    for spec in REPORT_TABLES:
        report = lakehouse.delta_table(spec.name)
        commit = find_newest_report_commit(report)
        assert commit is not None
        sources = {name: lakehouse.delta_table(name) for name in commit.inputs}
        for name, version in commit.inputs.items():
            sources[name].load_as_version(version)
        assert find_inconsistencies(report, sources, spec, commit) == []


def test_a_report_that_was_never_materialized_fails_and_says_so(lakehouse: LakehouseResource) -> None:
    for check in build_report_consistency_checks(REPORT_TABLES):
        verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
        assert isinstance(verdict, dg.AssetCheckResult)
        assert not verdict.passed
        assert "Materialize gold." in str(verdict.description)


def test_a_day_on_which_nothing_ended_has_a_report_without_rows_that_is_consistent(
    spark: SparkSession, lakehouse: LakehouseResource
) -> None:
    append_events(spark, lakehouse, [event("u", NOON, "remove_from_cart", None)])
    lakehouse.delta_table(EVENTS.name).delete()
    checks = build_report_consistency_checks(REPORT_TABLES)
    verdicts = materialize_days(spark, lakehouse, "2024-02-29", checks=checks).get_asset_check_evaluations()
    assert [(v.asset_key, v.description) for v in verdicts if not v.passed] == []
    assert len(verdicts) == len(REPORT_TABLES)
