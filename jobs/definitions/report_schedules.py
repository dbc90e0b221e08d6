"""When the reports run: following the streams by their conditions, and each night over all days that have changed.

The conditions are the assets' own (`platform_assets.reports.asset_specs`): today's partition hourly, each day's once
the streams have closed it. What they cannot see is a row that came after its day was closed, however old the day is:
the nightly run asks `platform.changed_days`, looks at the last days in any case, and computes what has changed.
"""

from __future__ import annotations

from datetime import UTC, timedelta

import dagster as dg

from platform_assets.reports.assets import ONLY_CHANGED_TAG
from resources.settings import Settings

# Most late rows come within the hour; at this time the day before is closed and the shop is at its quietest.
_NIGHTLY_CRON = "15 3 * * *"

# An evaluation looks at every partition of every report. Nothing that the conditions wait for comes more often.
_LOOK_SECONDS = 60

# One process and one Spark application for all: an application for each would cost a start of Spark each.
reports_job = dg.define_asset_job(
    "reports",
    # The checks have a schedule of their own, and would look at the same tables at the same time.
    selection=dg.AssetSelection.groups("reports").without_checks(),
    executor_def=dg.in_process_executor,
    description="All reports of one day or of a range of days, in one Spark application.",
)

reports_follow_streams = dg.AutomationConditionSensorDefinition(
    "reports_follow_streams",
    target=dg.AssetSelection.groups("reports"),
    minimum_interval_seconds=_LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Computes what the assets' automation conditions ask for: today hourly, a day once it is closed.",
)


def build_nightly_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Builds `reports_nightly`: one run over all days since `settings.first_day`; only days that changed are computed.

    The last `settings.late_days` are its partitions, and are looked at; older days are those that
    `platform.changed_days` names. The run finds them: the code server that evaluates the schedule reads no table.
    """

    @dg.schedule(
        name="reports_nightly",
        job=reports_job,
        cron_schedule=_NIGHTLY_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Computes the days whose rows have changed since they were computed, however old they are.",
    )
    def reports_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        last = now.date() - timedelta(days=1)
        if last < settings.first_day:
            return dg.SkipReason("The reports' first day (HEADRACE_FIRST_DAY) is not over.")
        look_from = max(settings.first_day, last - timedelta(days=settings.late_days - 1))
        tags = {
            "dagster/asset_partition_range_start": look_from.isoformat(),
            "dagster/asset_partition_range_end": last.isoformat(),
            ONLY_CHANGED_TAG: settings.first_day.isoformat(),
        }
        return dg.RunRequest(run_key=f"reports:nightly:{now:%Y-%m-%d}", tags=tags)

    return reports_nightly
