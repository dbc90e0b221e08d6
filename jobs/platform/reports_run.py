"""Computes in this process those days of the reports that have changed, whichever they are."""

from __future__ import annotations

import dagster as dg

from jobs.platform.run_in_process import run_quietly
from jobs.report_schedules import reports_job
from platform_assets.reports.assets import ONLY_CHANGED_TAG
from platform_assets.reports.day_states import REPORT_DAYS
from resources.lakehouse import LakehouseResource


def compute_changed_days(instance: dg.DagsterInstance, lakehouse: LakehouseResource) -> bool:
    """One run of the job `reports` over all days that any report has; what has not changed is left as it is.

    Returns whether it succeeded; without a day there is nothing to do.
    """
    table = lakehouse.find_table(REPORT_DAYS.name)
    if table is None:
        return True
    days = table.to_pyarrow_table(columns=["report_date"])["report_date"].to_pylist()
    if not days:
        return True
    tags = {
        "dagster/asset_partition_range_start": min(days).isoformat(),
        "dagster/asset_partition_range_end": max(days).isoformat(),
        ONLY_CHANGED_TAG: "true",
    }
    return run_quietly(reports_job.name, instance, tags).success
