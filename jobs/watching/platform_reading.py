"""What one scrape reads of Dagster's instance: the supervisor's tick, all groups' heartbeats, the checks' verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from jobs.definitions.stream_supervisor import SUPERVISOR
from jobs.supervision.cursor import parse_cursor
from jobs.supervision.lease import HostReport, read_records
from jobs.supervision.model import SupervisorState
from platform_assets.checks.time_to_loss import HOURS_TO_LOSS, TIME_TO_LOSS

_GIVEN = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
# Each verdict is an event of some kilobytes to parse, and checks run each five minutes at most: read with each scrape,
# a hundred of them would cost more than all else.
_VERDICTS_SECONDS = 60.0


@dataclass(frozen=True)
class Verdict:
    """What a check last said. `severity` is `error` or `warn` of a failure, None of a pass; `given_at` since 1970.

    `seconds_to_loss` is set by the check `time_to_loss` alone: infinite where Kafka deletes nothing that is unread.
    """

    table: str
    check: str
    severity: str | None
    given_at: float
    seconds_to_loss: float | None = None


@dataclass(frozen=True)
class GroupReading:
    """One group: what the supervisor's last tick found, and its host's last report; None where there is none yet."""

    state: SupervisorState | None
    report: HostReport | None


@dataclass(frozen=True)
class PlatformReading:
    """All that was read. `tick_at`: when the supervisor's newest tick began; None before the first."""

    groups: Mapping[str, GroupReading]
    tick_at: float | None
    verdicts: Sequence[Verdict]


class PlatformReader:
    """Reads again and again, from one thread at a time. `check_keys` are the checks whose verdicts are of interest."""

    def __init__(self, groups: Sequence[str], check_keys: Sequence[dg.AssetCheckKey]) -> None:
        self._groups = groups
        self._check_keys = check_keys
        self._verdicts: list[Verdict] = []
        self._verdicts_at = -math.inf

    def read(self, instance: dg.DagsterInstance, now: float) -> PlatformReading:
        """Three queries, whatever the number of groups; once a minute the verdicts as well.

        `now` is a monotonic clock in seconds. Raises what the instance's storage raises.
        """
        tick_at, states = _read_supervisor(instance)
        records = read_records(instance, self._groups)
        if now - self._verdicts_at >= _VERDICTS_SECONDS:
            self._verdicts = _read_verdicts(instance, self._check_keys)
            self._verdicts_at = now
        groups = {name: GroupReading(states.get(name), records[name].report) for name in self._groups}
        return PlatformReading(groups, tick_at, self._verdicts)


def _read_supervisor(instance: dg.DagsterInstance) -> tuple[float | None, Mapping[str, SupervisorState]]:
    for sensor in instance.all_instigator_state():
        if sensor.name == SUPERVISOR:
            data = sensor.instigator_data
            began_at = getattr(data, "last_tick_start_timestamp", None) or getattr(data, "last_tick_timestamp", None)
            return began_at, parse_cursor(getattr(data, "cursor", None))
    return None, {}


def _read_verdicts(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> list[Verdict]:
    storage = instance.event_log_storage
    found = []
    for key, newest in storage.get_latest_asset_check_execution_by_key(keys).items():
        # While a check is executed again, and where that has failed, the verdict before stands.
        given = [newest]
        if newest.status not in _GIVEN:
            given = list(storage.get_asset_check_execution_history(key, limit=1, status=_GIVEN))
        found += [verdict for record in given if (verdict := _as_verdict(key, record)) is not None]
    return found


def _as_verdict(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> Verdict | None:
    evaluation = record.evaluation
    if evaluation is None or record.event is None:
        return None
    seconds = None
    if key.name == TIME_TO_LOSS:
        hours = evaluation.metadata.get(HOURS_TO_LOSS)
        seconds = 3600.0 * float(str(hours.value)) if hours is not None else math.inf if evaluation.passed else None
    severity = None if evaluation.passed else evaluation.severity.value.lower()
    return Verdict(".".join(key.asset_key.path), key.name, severity, record.event.timestamp, seconds)
