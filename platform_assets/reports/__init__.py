"""The batch assets, as the composition root takes them. One file a report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import dagster as dg

from platform_assets.reports import assets
from platform_assets.reports.bandwidth_forecast import BANDWIDTH_FORECAST
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.customer_days import CUSTOMER_DAYS
from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.days import FIRST_DAY, build_daily_partitions
from platform_assets.reports.early_warning_scores import EARLY_WARNING_SCORES
from platform_assets.reports.merchant_category_report import MERCHANT_CATEGORY_REPORT
from platform_assets.reports.network_threats import NETWORK_THREATS
from platform_assets.reports.product_affinity import PRODUCT_AFFINITY
from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS
from platform_assets.reports.purchase_devices import PURCHASE_DEVICES
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.session_report import SESSION_REPORT
from platform_assets.reports.telemetry_anomalies import TELEMETRY_ANOMALIES
from platform_assets.tables.spec import TableSpec

DAILY_REPORTS = (SESSION_REPORT, PURCHASE_CORRELATIONS, PURCHASE_DEVICES, PRODUCT_AFFINITY, CUSTOMER_DAYS)
"""The shop's."""

ALL_DAILY_REPORTS = (
    *DAILY_REPORTS, MERCHANT_CATEGORY_REPORT, TELEMETRY_ANOMALIES, EARLY_WARNING_SCORES, NETWORK_THREATS,
    BANDWIDTH_FORECAST,
)  # fmt: skip


def select_reports(tables: Collection[TableSpec]) -> tuple[DailyReport, ...]:
    """The daily reports of the topics whose tables of accepted records are among these."""
    return tuple(report for report in ALL_DAILY_REPORTS if report.source.table in tables)


def list_report_tables(reports: Sequence[DailyReport]) -> tuple[TableSpec, ...]:
    """The tables of these daily reports, and the customers' table where it is summed up from one of them."""
    return (*(report.table for report in reports), *((CUSTOMER_360_TABLE,) if CUSTOMER_DAYS in reports else ()))


REPORT_TABLES = list_report_tables(DAILY_REPORTS)
"""The shop's."""


def build_report_assets(
    engine: EngineName, first_day: date = FIRST_DAY, reports: Sequence[DailyReport] = DAILY_REPORTS
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All batch assets, computed by this engine: the daily ones, the customers' table, and what is known of days.

    Reports begin with `first_day` (UTC). None for no reports.
    """
    if not reports:
        return []
    days = dg.AssetSpec(
        list(REPORT_DAYS.asset_path),
        deps=[list(report.table.asset_path) for report in reports],
        description=f"{REPORT_DAYS.description}\n\nGrain: {REPORT_DAYS.grain}. Written by the reports.",
        group_name="platform",
        kinds={"deltalake"},
        owners=["team:data-platform"],
        metadata={"dagster/table_name": REPORT_DAYS.name},
    )
    return [assets.build_report_assets(reports, build_daily_partitions(first_day), engine), days]
