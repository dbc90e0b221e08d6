"""A report is fresh when the shop's newest day is in it: an old day that was computed just now is no excuse."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.checks.freshness import build_report_freshness_checks
from platform_assets.checks.report_freshness import find_newest_day
from platform_assets.reports.customer_days import CUSTOMER_DAYS, CUSTOMER_DAYS_TABLE
from platform_assets.reports.day_states import PROVISIONAL, DayState, write_states
from platform_assets.reports.days import ONE_DAY, DayRange
from platform_assets.streaming.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.events import EVENTS
from resources.lakehouse import LakehouseResource

TODAY = datetime.now(UTC).date()
OLD = TODAY - timedelta(days=40)


def append_event(lakehouse: LakehouseResource, day: date) -> None:
    for source in CUSTOMER_DAYS.inputs:
        create_table(lakehouse.table_uri(source.table.name), source.table)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    sample = {"string": "x", "timestamp": at, "date": day, "int": 1, "bigint": 1, "double": 1.0, "boolean": False}
    row = {column.name: sample.get(column.type) for column in EVENTS.columns}
    write_deltalake(
        lakehouse.table_uri(EVENTS.name), pa.Table.from_pylist([row], build_arrow_schema(EVENTS)), mode="append"
    )


def compute(lakehouse: LakehouseResource, day: date) -> None:
    """What a run leaves behind for a day; the report's own rows do not matter to the check."""
    create_table(lakehouse.table_uri(CUSTOMER_DAYS_TABLE.name), CUSTOMER_DAYS_TABLE)
    names = [source.table.name for source in CUSTOMER_DAYS.inputs]
    inputs = json.dumps({name: lakehouse.delta_table(name).version() for name in names})
    name, code = CUSTOMER_DAYS_TABLE.name, CUSTOMER_DAYS.code_version
    write_states(
        lakehouse, [DayState(name, day, PROVISIONAL, 1, 1, inputs, code, datetime.now(UTC))], DayRange(day, day)
    )


def verdict(lakehouse: LakehouseResource, limit: timedelta = timedelta(0)) -> dg.AssetCheckResult:
    (check,) = build_report_freshness_checks([CUSTOMER_DAYS_TABLE], EVENTS.name, limit)
    found = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(found, dg.AssetCheckResult)
    return found


def test_an_old_day_that_was_computed_just_now_hides_no_missing_today(lakehouse: LakehouseResource) -> None:
    assert verdict(lakehouse).passed, "no source yet"
    append_event(lakehouse, OLD)
    append_event(lakehouse, TODAY)
    compute(lakehouse, OLD)
    missing = verdict(lakehouse)
    assert not missing.passed and str(TODAY) in str(missing.description)
    assert verdict(lakehouse, timedelta(days=2)).passed, "within the limit"


def test_today_is_fresh_until_its_own_rows_change(lakehouse: LakehouseResource) -> None:
    append_event(lakehouse, TODAY)
    compute(lakehouse, TODAY)
    assert verdict(lakehouse).passed
    append_event(lakehouse, OLD)
    assert verdict(lakehouse).passed, "a late row of another day"
    append_event(lakehouse, TODAY)
    assert not verdict(lakehouse).passed
    compute(lakehouse, OLD)
    assert not verdict(lakehouse).passed, "a backfill of another day"
    compute(lakehouse, TODAY)
    assert verdict(lakehouse).passed


def test_a_day_ahead_is_no_day_of_the_shop(lakehouse: LakehouseResource) -> None:
    append_event(lakehouse, TODAY + ONE_DAY)
    assert find_newest_day(lakehouse.delta_table(EVENTS.name), TODAY) is None
    append_event(lakehouse, OLD)
    assert find_newest_day(lakehouse.delta_table(EVENTS.name), TODAY) == OLD
