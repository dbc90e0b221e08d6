"""When the reports run: today's partition every hour, yesterday's when the day is over, older days by backfill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.supervision.run_records import UNFINISHED
from platform_assets.reports.daily import BATCH_SPARK_TAGS

# A session that began before midnight is open for 30 minutes after its last event, and streams wait 10 minutes for
# late events: at 00:40 nothing of the day is open any more. The second run takes in records that arrived hours late
# and sessions that went on all night.
_YESTERDAY_CRON = ("45 0 * * *", "45 12 * * *")

_TODAY_CRON = "5 * * * *"

# One process and one Spark application for both: an application for each would cost one more start of Spark.
reports_job = dg.define_asset_job(
    "reports",
    selection=dg.AssetSelection.assets(["gold", "session_report"], ["gold", "purchase_correlations"]),
    executor_def=dg.in_process_executor,
    tags=dict(BATCH_SPARK_TAGS),
    description="Both reports of one day or of a range of days, in one Spark application.",
)


@dg.schedule(
    name="reports_today",
    job=reports_job,
    cron_schedule=_TODAY_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def reports_today(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Hourly: the reports of the day that is not over yet (provisional).

    Skips while an earlier run of the same day is unfinished, so that slow runs cannot pile up.
    """
    now = context.scheduled_execution_time.astimezone(UTC)
    day = now.date().isoformat()
    unfinished = dg.RunsFilter(job_name=reports_job.name, statuses=UNFINISHED, tags={"dagster/partition": day})
    if context.instance.get_runs_count(unfinished):
        return dg.SkipReason(f"A run of the reports for {day} has not finished yet.")
    return _request(day, "provisional", now)


@dg.schedule(
    name="reports_yesterday",
    job=reports_job,
    cron_schedule=_YESTERDAY_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def reports_yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """After midnight, once the watermarks have passed the day's end, and again at noon: yesterday's reports."""
    now = context.scheduled_execution_time.astimezone(UTC)
    return _request((now.date() - timedelta(days=1)).isoformat(), "closed", now)


def _request(day: str, state: str, at: datetime) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"reports:{day}:{at:%Y-%m-%dT%H:%M}",
        partition_key=day,
        tags={**BATCH_SPARK_TAGS, "headrace/report_state": state},
    )
