"""When asset checks run: all of them hourly, the ledger after its streams, so that the UI shows a verdict unasked."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from platform_assets.checks.ledger import LEDGER
from platform_assets.streaming.stream_spec import Stream

checks_job = dg.define_asset_job(
    "asset_checks",
    selection=dg.AssetSelection.all_asset_checks(),
    executor_def=dg.in_process_executor,
    description="Every asset check, in one process.",
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

# Six streams are materialized each half hour, at moments of their own: a run for each would be six starts of Python.
_LEDGER_SECONDS = 300


def build_ledger_sensor(streams: Iterable[Stream]) -> dg.AutomationConditionSensorDefinition:
    """Builds `ledger_follows_streams`, which checks the ledger of each stream with a newer materialization."""
    keys = [dg.AssetCheckKey(dg.AssetKey(stream.main_table.asset_path), LEDGER) for stream in streams]
    return dg.AutomationConditionSensorDefinition(
        "ledger_follows_streams",
        target=dg.AssetSelection.checks(*keys),
        minimum_interval_seconds=_LEDGER_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Proves anew, each five minutes at most, that nothing was lost or doubled in what was written.",
    )
