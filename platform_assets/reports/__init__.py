"""The batch assets, as the composition root takes them. One file a report."""

from __future__ import annotations

import dagster as dg

from platform_assets.reports.daily import build_daily_partitions
from platform_assets.reports.purchase_correlations import (
    PURCHASE_CORRELATIONS_TABLE,
    build_purchase_correlations_asset,
)
from platform_assets.reports.session_report import SESSION_REPORT_TABLE, build_session_report_asset

REPORT_TABLES = (SESSION_REPORT_TABLE, PURCHASE_CORRELATIONS_TABLE)


def build_report_assets() -> list[dg.AssetsDefinition]:
    """All batch assets over one daily partitioning."""
    partitions = build_daily_partitions()
    return [
        build_session_report_asset(partitions),
        build_purchase_correlations_asset(partitions),
    ]
