"""The job that runs every asset check, and its hourly schedule, so that the UI shows a verdict without being asked."""

from __future__ import annotations

import dagster as dg

checks_job = dg.define_asset_job(
    "asset_checks",
    selection=dg.AssetSelection.all_asset_checks(),
    executor_def=dg.in_process_executor,
    description="Every asset check, in one process; Spark computes the streams' twins.",
)

# A run of all checks leaves about 0.3 MB of events: each five minutes they would be most of the event log.
_CRON = "35 * * * *"

checks_hourly = dg.ScheduleDefinition(
    name="checks_hourly",
    job=checks_job,
    cron_schedule=_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
