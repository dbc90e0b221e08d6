"""Computes the reports in this process, for a command that says itself what came of it."""

from __future__ import annotations

from datetime import date

import dagster as dg

from jobs.definitions.report_schedules import reports_job
from jobs.platform.run_in_process import run_quietly
from platform_assets.reports.assets import ONLY_CHANGED_TAG
from platform_assets.reports.day_states import REPORT_DAYS
from resources.lakehouse import LakehouseResource


def compute_days(instance: dg.DagsterInstance, first: date, last: date, *, only_changed: bool = False) -> bool:
    """One run of the job `reports` over these days, as a backfill does. Returns whether it succeeded.

    `only_changed`: days that have not changed get no materialization that says so.
    """
    tags = {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
    if only_changed:
        tags[ONLY_CHANGED_TAG] = first.isoformat()
    return run_quietly(reports_job.name, instance, tags).success


def compute_changed_days(instance: dg.DagsterInstance, lakehouse: LakehouseResource) -> bool:
    """Computes those days of the reports that have changed, whichever they are; what has not is left as it is.

    Returns whether it succeeded; without a day there is nothing to do.
    """
    table = lakehouse.find_table(REPORT_DAYS.name)
    if table is None:
        return True
    days = table.to_pyarrow_table(columns=["report_date"])["report_date"].to_pylist()
    return not days or compute_days(instance, min(days), max(days), only_changed=True)
