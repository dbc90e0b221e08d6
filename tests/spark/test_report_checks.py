"""The consistency checks: green over what the assets wrote, red over every way of breaking it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.recomputed import comparison, product_affinity, session_report
from platform_assets.checks.report_consistency import (
    build_report_consistency_checks,
)
from platform_assets.checks.schema_contract import build_schema_contract_checks, find_contract_breaches
from platform_assets.reports import REPORT_TABLES
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.report_sources import SHOP
from platform_assets.reports.session_report import SESSION_REPORT_TABLE
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.platform import COMPLETE_UNTIL
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.report_cases import HALF_HOUR, MICROSECOND, append_events, event, materialize_days, run_reports, shops

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
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A lakehouse with the reports of one day, and the run with the checks' verdicts."""
    root = tmp_path_factory.mktemp("written")
    lakehouse = LakehouseResource(root=str(root))
    append_events(lakehouse, EVENT_LIST)
    checks = [
        *build_report_consistency_checks(REPORT_TABLES),
        *build_schema_contract_checks(REPORT_TABLES),
    ]
    yield root, materialize_days(lakehouse, "2024-02-29", checks=checks)
    shutil.rmtree(root)


def test_all_checks_pass_in_the_run_that_writes_the_reports(written: tuple[Path, Any]) -> None:
    root, result = written
    verdicts: list[dg.AssetCheckEvaluation] = result.get_asset_check_evaluations()
    assert len(verdicts) == 2 * len(REPORT_TABLES)
    assert [(v.asset_key, v.check_name, v.description) for v in verdicts if not v.passed] == []
    assert find_contract_breaches(LakehouseResource(root=str(root)).delta_table(EVENTS.name), EVENTS) == []


def plant(column: Column) -> str:
    """SQL of a wrong value of the column's type, near to the right one."""
    if column.name in ("total_revenue", "attributed_revenue"):
        return f"{column.name} + 0.01"
    return {
        "bigint": f"{column.name} + 1",
        "double": f"coalesce({column.name} * 1.000001, 0.0) + 0.000001",
        "date": f"{column.name} - 1",
        "timestamp": f"coalesce({column.name}, last_event_at) + interval '1 microsecond'"
        if column.name.startswith("last_session") or column.name == "last_purchase_at"
        else f"{column.name} + interval '1 microsecond'",
        "string": f"concat(coalesce({column.name}, ''), 'x')",
    }[column.type]


@pytest.mark.parametrize(
    ("spec", "column"),
    [
        pytest.param(spec, column, id=f"{spec.name}-{column.name}")
        for spec in REPORT_TABLES
        for column in spec.columns
        if column.name not in spec.partition_columns
    ],
)
def test_the_consistency_check_finds_one_wrong_value_in_any_column(
    written: tuple[Path, Any], tmp_path: Path, spec: TableSpec, column: Column
) -> None:
    lakehouse = copy_of(written, tmp_path)
    rows = lakehouse.delta_table(spec.name).to_pyarrow_table().to_pylist()
    # One row: of those that have a value, where there is one.
    row = max(rows, key=lambda row: (row[column.name] is not None, str(row)))
    own = " and ".join(
        f"{name} is null" if row[name] is None else f"{name} = '{row[name]}'"
        for name in spec.key
        if name not in spec.partition_columns
    )
    value = plant(column).replace("last_event_at", "last_seen_at" if "last_seen_at" in row else "last_event_at")
    changed = lakehouse.delta_table(spec.name).update({column.name: value}, predicate=own)
    assert changed["num_updated_rows"] == 1
    verdict = check_consistency(lakehouse, spec)
    assert not verdict.passed
    assert "2 differing rows" in str(verdict.description)
    assert column.name in str(verdict.description)


@pytest.mark.parametrize("spec", REPORT_TABLES, ids=lambda spec: spec.name)
def test_the_consistency_check_finds_rows_that_are_missing_or_there_twice(
    written: tuple[Path, Any], tmp_path: Path, spec: TableSpec
) -> None:
    lakehouse = copy_of(written, tmp_path)
    table = lakehouse.delta_table(spec.name)
    rows = table.to_pyarrow_table()
    write_deltalake(table, rows.slice(0, 1), mode="append")
    assert "more than once" in str(check_consistency(lakehouse, spec).description)
    lakehouse.delta_table(spec.name).delete()
    assert f"{len(rows)} differing rows" in str(check_consistency(lakehouse, spec).description)


def copy_of(written: tuple[Path, Any], place: Path) -> LakehouseResource:
    # A folder with a name as users have them: readers must not ask for the percent-encoded path.
    shutil.copytree(written[0], place / "my lake (\u00fc)")
    return LakehouseResource(root=str(place / "my lake (\u00fc)"))


def check_consistency(lakehouse: LakehouseResource, spec: TableSpec) -> dg.AssetCheckResult:
    (check,) = build_report_consistency_checks([spec])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_an_older_day_is_compared_in_its_turn_until_its_inputs_change(lakehouse: LakehouseResource) -> None:
    append_events(lakehouse, EVENT_LIST)
    complete = [
        {"query": query, "complete_until": MIDNIGHT + timedelta(days=2), "written_at": MIDNIGHT}
        for query in SHOP.queries
    ]
    write_deltalake(
        lakehouse.table_uri(COMPLETE_UNTIL.name),
        pa.Table.from_pylist(complete, build_arrow_schema(COMPLETE_UNTIL)),
    )
    materialize_days(lakehouse, "2024-02-29")
    run_reports(lakehouse, "2024-03-01")
    spec = SESSION_REPORT_TABLE
    assert "in its turn 2024-02-29" in str(check_consistency(lakehouse, spec).description)

    lakehouse.delta_table(spec.name).update({"users": "users + 1"}, predicate="report_date = '2024-02-29'")
    assert "differing rows" in str(check_consistency(lakehouse, spec).description)

    sessions = lakehouse.delta_table(SESSIONS.name)
    write_deltalake(sessions, sessions.to_pyarrow_table(filters=[("session_date", "=", NOON.date())]), mode="append")
    verdict = check_consistency(lakehouse, spec)
    assert verdict.passed
    assert str(verdict.description) == "All rows agree. Compared: 2024-03-01."


IDS = st.text(
    st.sampled_from(["a", '"', "\\", "{", "}", ":", "/", "\u00fc", "\n", "\u2028", "\U0001f6d2"]),
    min_size=1,
    max_size=6,
)


@pytest.mark.long
@examples(2)
@given(data=st.data())
def test_all_that_is_computed_from_any_shop_is_consistent_in_portions_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    # Each kind of odd name in each place: the names of JSON objects, the keys of groups and of portions.
    names = {kind: data.draw(st.lists(IDS, min_size=2, max_size=2, unique=True)) for kind in ("p", "u", "d")}
    events = [
        {
            **e,
            "user_id": names["u"][0] + e["user_id"],
            "product_id": e["product_id"] and names["p"][e["product_id"] == "p1"],
            "device_type": e["device_type"] and names["d"][e["device_type"] == "mobile"],
            "category": data.draw(st.sampled_from([*names["p"], None])),
        }
        for e in data.draw(shops(5))
    ]
    lakehouse = LakehouseResource(root=str(tmp_path / uuid.uuid4().hex))
    append_events(lakehouse, events)
    days = sorted({e["event_time"].date() for e in events})
    materialize_days(lakehouse, str(days[0]), str(min(days[-1], days[0] + timedelta(days=3))))
    for rows in (1_000_000, 30):
        monkeypatch.setattr(comparison, "ROWS_OF_ONE_PORTION", rows)
        monkeypatch.setattr(session_report, "_SESSIONS_OF_ONE_PORTION", rows)
        monkeypatch.setattr(product_affinity, "_EVENTS_OF_ONE_PORTION", rows)
        for spec in REPORT_TABLES:
            verdict = check_consistency(lakehouse, spec)
            assert verdict.passed, verdict.description


def test_later_events_do_not_make_a_report_inconsistent_with_what_it_read(
    written: tuple[Path, Any], tmp_path: Path
) -> None:
    lakehouse = copy_of(written, tmp_path)
    append_events(lakehouse, [event("u0", NOON + timedelta(minutes=1))], first_offset=100)
    for spec in REPORT_TABLES:
        verdict = check_consistency(lakehouse, spec)
        assert verdict.passed, verdict.description


def test_a_report_whose_inputs_are_no_longer_in_the_log_gets_a_warning_that_says_so(
    written: tuple[Path, Any], tmp_path: Path
) -> None:
    lakehouse = copy_of(written, tmp_path)
    daily = [spec for spec in REPORT_TABLES if spec.partition_columns]
    for name, reports in (
        (EVENTS.name, []),
        (SESSIONS.name, daily),
        (CUSTOMER_DAYS_TABLE.name, [CUSTOMER_360_TABLE]),
    ):
        clean_log(lakehouse, name)
        for spec in reports:
            verdict = check_consistency(lakehouse, spec)
            assert not verdict.passed
            assert verdict.severity == dg.AssetCheckSeverity.WARN
            assert "does not hold version" in str(verdict.description)


def clean_log(lakehouse: LakehouseResource, name: str) -> None:
    """One more commit, and only this one is left."""
    table = lakehouse.delta_table(name)
    write_deltalake(table, table.to_pyarrow_table().slice(0, 1), mode="append")
    newer = lakehouse.delta_table(name)
    newer.create_checkpoint()
    for version in range(newer.version()):
        (Path(lakehouse.table_uri(name)) / "_delta_log" / f"{version:020}.json").unlink()


def test_a_report_whose_inputs_have_lost_their_files_gets_a_warning_that_says_so(
    written: tuple[Path, Any], tmp_path: Path
) -> None:
    lakehouse = copy_of(written, tmp_path)
    for file in Path(lakehouse.table_uri(SESSIONS.name)).rglob("*.parquet"):
        file.unlink()
    verdict = check_consistency(lakehouse, SESSION_REPORT_TABLE)
    assert not verdict.passed
    assert verdict.severity == dg.AssetCheckSeverity.WARN
    assert "is gone" in str(verdict.description)


def test_a_report_that_was_never_materialized_fails_and_says_so(lakehouse: LakehouseResource) -> None:
    for check in build_report_consistency_checks(REPORT_TABLES):
        verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
        assert isinstance(verdict, dg.AssetCheckResult)
        assert not verdict.passed
        assert "Materialize gold." in str(verdict.description)


def test_a_day_on_which_nothing_ended_has_a_report_without_rows_that_is_consistent(
    lakehouse: LakehouseResource,
) -> None:
    append_events(lakehouse, [event("u", NOON, "remove_from_cart", None)])
    lakehouse.delta_table(EVENTS.name).delete()
    checks = build_report_consistency_checks(REPORT_TABLES)
    verdicts = materialize_days(lakehouse, "2024-02-29", checks=checks).get_asset_check_evaluations()
    assert [(v.asset_key, v.description) for v in verdicts if not v.passed] == []
    assert len(verdicts) == len(REPORT_TABLES)
