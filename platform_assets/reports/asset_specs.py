"""What the reports are as Dagster assets: names, lineage, when they are computed, how fresh they must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_page import DAILY_PAGE_KEY
from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.days import CLOSED_DAYS_KEY
from platform_assets.reports.presentation import build_column_schema
from platform_assets.reports.report_sources import SHOP
from platform_assets.tables.spec import TableSpec

CUSTOMERS_KEY = dg.AssetKey(CUSTOMER_360_TABLE.asset_path)

# One hour between two provisional runs, plus the time of a run behind another one in the queue: a report that misses
# one run is only warned about, one that misses two is failing.
FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(minutes=90))

# What is provisional is refreshed by the clock: the streams' own events come each half hour and apart from each
# other, and each would cost a run.
_EACH_HOUR = (
    dg.AutomationCondition.in_latest_time_window()
    & dg.AutomationCondition.cron_tick_passed("5 * * * *").since(dg.AutomationCondition.newly_requested())
).with_label("today, hourly")

_WHEN_CLOSED = (
    dg.AutomationCondition.any_deps_updated()
    .allow(dg.AssetSelection.assets(CLOSED_DAYS_KEY))
    .since(dg.AutomationCondition.newly_requested())
    .with_label("the streams have closed the day")
)

FOLLOW_THE_STREAMS = ((_EACH_HOUR | _WHEN_CLOSED) & ~dg.AutomationCondition.in_progress()).with_label(
    "follow the streams"
)

# The customers' table follows the days that it is summed up from, when all that was asked for is done.
_WHEN_DAYS_CHANGED = (
    dg.AutomationCondition.any_deps_updated().since(dg.AutomationCondition.newly_requested())
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("its days have changed")

# The nightly run yields nothing for what has not changed.
_ALL: Mapping[str, Any] = {
    "group_name": "reports",
    "owners": ["team:data-platform"],
    "freshness_policy": FRESHNESS_POLICY,
    "skippable": True,
}


def report_key(report: DailyReport) -> dg.AssetKey:
    """The report's asset."""
    return dg.AssetKey(report.table.asset_path)


def describe_assets(
    reports: Sequence[DailyReport], partitions: dg.DailyPartitionsDefinition, engine: str
) -> list[dg.AssetSpec]:
    """The daily reports, computed by this engine, and their daily page; of the shop's also the customers' table."""
    kinds = {engine, "deltalake"}
    daily = [
        _describe_table(
            report.table,
            kinds,
            deps=[*(dg.AssetKey(source.table.asset_path) for source in report.inputs), CLOSED_DAYS_KEY],
            partitions_def=partitions,
            code_version=report.code_version,
            automation_condition=FOLLOW_THE_STREAMS,
        )
        for report in reports
    ]
    page = dg.AssetSpec(
        DAILY_PAGE_KEY,
        deps=[*map(report_key, reports), CLOSED_DAYS_KEY],
        description="The day's reports as one HTML file without further parts, next to the tables.",
        kinds={"html"},
        partitions_def=partitions,
        automation_condition=FOLLOW_THE_STREAMS,
        **_ALL,
    )
    if not any(report.source == SHOP for report in reports):
        return [*daily, page]
    customers = _describe_table(
        CUSTOMER_360_TABLE,
        kinds,
        deps=[dg.AssetKey(CUSTOMER_DAYS_TABLE.asset_path)],
        automation_condition=_WHEN_DAYS_CHANGED,
    )
    return [*daily, page, customers]


def _describe_table(table: TableSpec, kinds: set[str], **parts: Any) -> dg.AssetSpec:
    return dg.AssetSpec(
        list(table.asset_path),
        description=f"{table.description}\n\nGrain: {table.grain}.",
        kinds=kinds,
        metadata={"dagster/table_name": table.name, "dagster/column_schema": build_column_schema(table)},
        **parts,
        **_ALL,
    )
