"""The batch assets, as the composition root takes them. One file a report."""

from __future__ import annotations

from datetime import date

import dagster as dg

from platform_assets.reports import assets
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.customer_days import CUSTOMER_DAYS
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.days import FIRST_DAY, build_daily_partitions
from platform_assets.reports.product_affinity import PRODUCT_AFFINITY
from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS
from platform_assets.reports.purchase_devices import PURCHASE_DEVICES
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.session_report import SESSION_REPORT

DAILY_REPORTS = (SESSION_REPORT, PURCHASE_CORRELATIONS, PURCHASE_DEVICES, PRODUCT_AFFINITY, CUSTOMER_DAYS)
REPORT_TABLES = (*(report.table for report in DAILY_REPORTS), CUSTOMER_360_TABLE)


def build_report_assets(engine: EngineName, first_day: date = FIRST_DAY) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All batch assets, computed by this engine: the daily ones, the customers' table, and what is known of days.

    Reports begin with `first_day` (UTC).
    """
    days = dg.AssetSpec(
        list(REPORT_DAYS.asset_path),
        deps=[list(report.table.asset_path) for report in DAILY_REPORTS],
        description=f"{REPORT_DAYS.description}\n\nGrain: {REPORT_DAYS.grain}. Written by the reports.",
        group_name="platform",
        kinds={"deltalake"},
        owners=["team:data-platform"],
        metadata={"dagster/table_name": REPORT_DAYS.name},
    )
    return [assets.build_report_assets(DAILY_REPORTS, build_daily_partitions(first_day), engine), days]
