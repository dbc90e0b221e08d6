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
from platform_assets.reports.daily_report import pin_table
from platform_assets.reports.day_states import PROVISIONAL, DayState, InputChanges, find_stale_days, write_states
from platform_assets.reports.days import ONE_DAY, DayRange
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import CHANGED_DAYS, EXPIRED_ROWS
from platform_assets.topics.events import EVENTS
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


def test_a_shop_whose_days_are_all_before_the_reports_first_is_told_the_setting(lakehouse: LakehouseResource) -> None:
    append_event(lakehouse, date(2019, 10, 1))
    found = verdict(lakehouse)
    assert not found.passed and found.severity is dg.AssetCheckSeverity.WARN
    assert "HEADRACE_FIRST_DAY" in str(found.description) and "2019-10-01" in str(found.description)


def note_changes(lakehouse: LakehouseResource, *changes: tuple[str, date | None, int]) -> None:
    """What the stream group writes of each table's days."""
    table = create_table(lakehouse.table_uri(CHANGED_DAYS.name), CHANGED_DAYS)
    now = datetime.now(UTC)
    rows = [{"table_name": n, "day": d, "version": v, "written_at": now} for n, d, v in changes]
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(CHANGED_DAYS)), mode="overwrite")


def find_stale(lakehouse: LakehouseResource, look_from: date) -> list[date]:
    inputs = [pin_table(lakehouse, source.table) for source in CUSTOMER_DAYS.inputs]
    days = DayRange(TODAY - timedelta(days=2000), TODAY - ONE_DAY)
    return find_stale_days(CUSTOMER_DAYS, days, inputs, None, lakehouse, InputChanges(lakehouse), look_from)


def test_at_night_an_old_day_is_computed_when_its_rows_changed_and_no_other_old_day(
    lakehouse: LakehouseResource,
) -> None:
    late, ancient, untouched = (TODAY - timedelta(days=days) for days in (20, 1500, 30))
    for day in (late, untouched):
        append_event(lakehouse, day)
        compute(lakehouse, day)
    yesterday = TODAY - ONE_DAY
    before = lakehouse.delta_table(EVENTS.name).version()
    note_changes(lakehouse, (EVENTS.name, None, before), (EVENTS.name, late, 1), (EVENTS.name, untouched, before))
    assert find_stale(lakehouse, yesterday) == [yesterday], "one that was never computed, in the look-back"
    append_event(lakehouse, late)
    append_event(lakehouse, ancient)
    now = lakehouse.delta_table(EVENTS.name).version()
    note_changes(
        lakehouse, (EVENTS.name, None, now), (EVENTS.name, late, now - 1), (EVENTS.name, ancient, now),
        (EVENTS.name, untouched, before), (EVENTS.name, date(2019, 1, 1), now),
    )  # fmt: skip
    assert find_stale(lakehouse, yesterday) == [ancient, late, yesterday]
    assert InputChanges(lakehouse).find_before(date(2020, 1, 1)) == {date(2019, 1, 1)}


def test_a_day_ahead_is_no_day_of_the_shop(lakehouse: LakehouseResource) -> None:
    append_event(lakehouse, TODAY + ONE_DAY)
    assert find_newest_day(lakehouse.delta_table(EVENTS.name), TODAY) is None
    append_event(lakehouse, OLD)
    assert find_newest_day(lakehouse.delta_table(EVENTS.name), TODAY) == OLD


def test_a_day_whose_events_have_expired_is_not_computed_again(lakehouse: LakehouseResource) -> None:
    kept, first, expired = (TODAY - timedelta(days=days) for days in (20, 30, 31))
    for day in (kept, expired):
        append_event(lakehouse, day)
        compute(lakehouse, day)
    lakehouse.delta_table(EVENTS.name).delete(f"event_date <= '{first}'")
    append_event(lakehouse, kept)
    now = lakehouse.delta_table(EVENTS.name).version()
    note_changes(lakehouse, (EVENTS.name, None, now), (EVENTS.name, expired, now - 1), (EVENTS.name, kept, now))
    yesterday = TODAY - ONE_DAY
    assert find_stale(lakehouse, yesterday) == [expired, kept, yesterday]
    look = {"table_name": EVENTS.name, "until_day": first, "looked_at": now, "written_at": datetime.now(UTC)}
    account = create_table(lakehouse.table_uri(EXPIRED_ROWS.name), EXPIRED_ROWS)
    write_deltalake(account, pa.Table.from_pylist([look], build_arrow_schema(EXPIRED_ROWS)), mode="append")
    assert find_stale(lakehouse, yesterday) == [kept, yesterday]
