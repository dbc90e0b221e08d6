"""The sensor by which a check's verdict stands until it is given again.

Dagster shows "Not evaluated" for a check, a red one too, once its asset is materialized again: a verdict counts for the
materialization that it names. The streams' tables are materialized each half hour, the checks run each hour. So the
last verdict comes to name the newest materialization; its metadata says when it was given (`headrace/evaluated_at`).

Dagster keeps one row for a check in a run, which holds the verdict whole, and which the UI shows. That row is changed
in its place. An event in the log for each would be 8.6 kB, 17 MB a day; so it is nothing. And a verdict that another
run gives at the same moment has a row of its own, and is not covered up. Uses Dagster's internals for this;
`tests/unit/test_standing_verdicts.py` covers that use.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_shared.record import replace

from platform_assets.checks.ledger import LEDGER
from platform_assets.errors import StorageError

EVALUATED_AT = "headrace/evaluated_at"

_GIVEN = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}

_LOOK_SECONDS = 60

# The check `ledger` follows each materialization by itself, within five minutes and the time of a run: it is carried
# over only where that does not happen.
_LEDGER_SECONDS = 900.0


def carry_verdicts(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], now: float) -> list[str]:
    """Makes each check's last verdict one about its asset's newest materialization. Names those that were not.

    A check that is being executed is left alone, and one that was never given a verdict. `now` in seconds since 1970.
    Raises `StorageError` for a storage of Dagster that is not in SQL.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise StorageError("This storage of Dagster keeps no verdicts in SQL. Switch the sensor verdicts_stand off.")
    records = storage.get_latest_asset_check_execution_by_key(keys)
    assets = instance.get_asset_records(list({key.asset_key for key in records}))
    newest = {record.asset_entry.asset_key: record.asset_entry.last_materialization_record for record in assets}
    carried = []
    for key, shown in records.items():
        materialization, verdict = newest.get(key.asset_key), _find_verdict(instance, storage, shown)
        if materialization is None or verdict is None or (verdict is shown and _is_about(verdict, materialization)):
            continue
        if key.name == LEDGER and now - materialization.timestamp < _LEDGER_SECONDS:
            continue
        if _carry(storage, shown, verdict, materialization):
            carried.append(f"{key.name} of {'.'.join(key.asset_key.path)}")
    return carried


def build_verdicts_sensor() -> dg.SensorDefinition:
    """The sensor `verdicts_stand`, on by default. A tick without news reads two tables of Dagster's storage."""

    @dg.sensor(
        name="verdicts_stand",
        minimum_interval_seconds=_LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps each check's last verdict, with its time, on a table that was materialized since.",
    )
    def verdicts_stand(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        assert context.repository_def is not None
        keys = list(context.repository_def.asset_graph.asset_check_keys)
        carried = carry_verdicts(context.instance, keys, time.time())
        said = (
            f"Carried over: {', '.join(carried)}." if carried else "Each verdict is about the newest materialization."
        )
        return dg.SkipReason(said)

    return verdicts_stand


def _find_verdict(
    instance: dg.DagsterInstance, storage: SqlEventLogStorage, shown: AssetCheckExecutionRecord
) -> AssetCheckExecutionRecord | None:
    """The verdict that is to be seen; None while one is being found, or when that has failed, which is seen then.

    A run that was cancelled before it came to the check has given none: the one before stands.
    """
    if shown.status is not AssetCheckExecutionRecordStatus.PLANNED:
        return shown
    run = instance.get_run_by_id(shown.run_id)
    if run is not None and (not run.is_finished or run.is_failure):
        return None
    given = storage.get_asset_check_execution_history(shown.key, limit=1, status=_GIVEN)
    return given[0] if given else None


def _is_about(verdict: AssetCheckExecutionRecord, materialization: dg.EventLogRecord) -> bool:
    """Whether Dagster takes the verdict as one about this materialization."""
    if materialization.run_id == verdict.run_id or verdict.evaluation is None:
        return True
    target = verdict.evaluation.target_materialization_data
    if target is None:
        return materialization.timestamp < verdict.create_timestamp
    return target.storage_id == materialization.storage_id


def _carry(
    storage: SqlEventLogStorage,
    shown: AssetCheckExecutionRecord,
    verdict: AssetCheckExecutionRecord,
    materialization: dg.EventLogRecord,
) -> bool:
    """Changes the verdict's row. False when another came in the meantime: it is looked at next time."""
    entry, evaluation = verdict.event, verdict.evaluation
    [newest] = [info for info in storage.get_asset_check_partition_info([verdict.key]) if info.partition_key is None]
    if newest.latest_planned_run_id != shown.run_id or entry is None or evaluation is None:
        return False
    if verdict is not shown:  # below the row of the run that gave none: one more, of no run, comes above it
        entry = entry._replace(run_id="")
    given = datetime.fromtimestamp(entry.timestamp, UTC).isoformat(timespec="seconds")
    about = AssetCheckEvaluationTargetMaterializationData(
        storage_id=materialization.storage_id, run_id=materialization.run_id, timestamp=materialization.timestamp
    )
    metadata = {EVALUATED_AT: dg.MetadataValue.text(given), **evaluation.metadata}
    again = replace(evaluation, target_materialization_data=about, metadata=metadata)
    event = entry.get_dagster_event()._replace(event_specific_data=again)
    storage.store_asset_check_event(entry._replace(dagster_event=event), newest.latest_check_event_storage_id)
    return True
