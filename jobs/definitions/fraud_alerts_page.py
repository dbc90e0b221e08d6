"""The job that writes the page of fraud alerts, and the schedule that runs it each hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.fraud.page_asset import ALERTS_PAGE_KEY

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Apart from the hourly reports (:05): both read the tables of payments.
_CRON = "35 * * * *"


def build_page_job() -> UnresolvedAssetJobDefinition:
    """Builds `fraud_alerts_page`."""
    return dg.define_asset_job(
        "fraud_alerts_page",
        selection=dg.AssetSelection.assets(ALERTS_PAGE_KEY),
        executor_def=dg.in_process_executor,
        description="Writes the page of the newest fraud alerts.",
    )


def build_page_schedule(job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Builds `fraud_alerts_page_hourly`."""
    return dg.ScheduleDefinition(
        name="fraud_alerts_page_hourly",
        job=job,
        cron_schedule=_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Writes the page of the newest fraud alerts.",
    )
