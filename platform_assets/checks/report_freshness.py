"""The check `freshness` of the reports by day: is the newest day of the shop in the report?

The newest write of a report's table says nothing about that: a backfill of an old day writes it too, and would hide
that today's is missing or stale.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.freshness import Freshness, judge_derived_table, read_last_write
from platform_assets.reports.daily_report import DailyReport, pin_table
from platform_assets.reports.day_states import InputChanges, read_states
from platform_assets.reports.days import DayRange

if TYPE_CHECKING:
    from deltalake import DeltaTable


def build_daily_freshness_check(
    report: DailyReport, source: str, limit: timedelta, first_day: date
) -> dg.AssetChecksDefinition:
    """Fresh when the newest day of `source` is in the report with all its rows, or was computed within `limit`.

    Warns when there are only days before `first_day`, the reports' first.
    """

    @dg.asset_check(
        asset=list(report.table.asset_path),
        name="freshness",
        description=f"The newest day of {source} is in {report.table.name}, at most {limit} behind.",
        required_resource_keys={"lakehouse"},
    )
    def freshness(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        source_table = lakehouse.find_table(source)
        if source_table is None:
            return dg.AssetCheckResult(
                passed=True, description=f"{source} does not exist yet: nothing to be behind of."
            )
        day = find_newest_day(source_table, datetime.now(UTC).date())
        if day is None:
            return dg.AssetCheckResult(passed=True, description="The source has no rows yet.")
        if day < first_day:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"The newest day of {source} is {day}, and reports begin with {first_day}. Set "
                f"HEADRACE_FIRST_DAY to the shop's first day.",
            )
        verdict = judge_day(report, day, lakehouse, source_table, limit)
        return dg.AssetCheckResult(
            passed=verdict.is_fresh, description=f"{day}: {verdict.description}", metadata={"headrace/day": str(day)}
        )

    return freshness


def find_newest_day(table: "DeltaTable", today: date) -> date | None:
    """The newest day of a table that is partitioned by day, up to today: a day ahead is a clock's, not the shop's."""
    (column,) = table.metadata().partition_columns
    days = (date.fromisoformat(partition[column]) for partition in table.partitions() if partition[column])
    return max((day for day in days if day <= today), default=None)


def judge_day(
    report: DailyReport, day: date, lakehouse: Any, source_table: "DeltaTable", limit: timedelta
) -> Freshness:
    """Fresh when no input of the day changed since it was computed, or the source went on for at most `limit`."""
    state = next(iter(read_states(lakehouse, report.table.name, DayRange(day, day))), None)
    if state is not None:
        pinned = {i.table.name: pin_table(lakehouse, i.table).version for i in report.inputs}
        if not InputChanges(lakehouse).touch(report, state, pinned):
            return Freshness(True, "Nothing of the day has changed since it was computed.")
    created = datetime.fromtimestamp((source_table.metadata().created_time or 0) / 1000, UTC)
    return judge_derived_table(
        None if state is None else state.computed_at,
        max(created, DayRange(day, day).start),
        read_last_write(source_table),
        limit,
    )
