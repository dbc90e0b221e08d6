"""A Dagster instance on disk with what hosts, supervisor and checks leave in it; numbers rise with each heartbeat."""

# No postponed annotations in this file: Dagster reads those of checks at definition time.
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from jobs.definitions.stream_supervisor import SUPERVISOR
from jobs.supervision.cursor import format_cursor
from jobs.supervision.group_lease import identify_myself
from jobs.supervision.lease import HostReport, write_heartbeat
from jobs.supervision.model import Heartbeat, Phase, SupervisorState
from jobs.supervision.usage import UsageWatch
from platform_assets.streaming.batch_totals import WHOLE, BatchTotals
from platform_assets.streaming.progress import AlertProgress, QueryProgress, SinkProgress
from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup
from platform_assets.topics.events import TOPIC

TABLE = dg.AssetKey(["silver", "events"])
GROUPS = [StreamGroup(name, (KafkaStream(TOPIC, 1.0),)) for name in ("clickstream", "payments")]
_ILL_PHASES = {"clickstream": Phase.NEEDS_ATTENTION, "payments": Phase.FAILING}
_LONG_AGO_SECONDS = 4 * 3600.0
_PASSED = {"passed": True}


def _as_result(**metadata: float) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=_PASSED["passed"], metadata=metadata)


@dg.asset_check(asset=TABLE, name="ledger")
def ledger() -> dg.AssetCheckResult:
    return _as_result()


@dg.asset_check(asset=TABLE, name="parity")
def parity() -> dg.AssetCheckResult:
    return _as_result()


@dg.asset_check(asset=TABLE, name="time_to_loss")
def time_to_loss() -> dg.AssetCheckResult:
    return _as_result(**({} if _PASSED["passed"] else {"kafka/hours_to_loss": 3.0}))


_CHECKS = [ledger, parity, time_to_loss]
KEYS = [key for check in _CHECKS for key in check.check_keys]
_DEFINITIONS = dg.Definitions(
    assets=[dg.AssetSpec(TABLE)],
    asset_checks=_CHECKS,
    jobs=[dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks(), executor_def=dg.in_process_executor)],
)


@dataclass
class BrokenStorage:
    """The folder of the databases, put away."""

    kept: Path
    place: Path

    def restore(self) -> None:
        self.place.unlink()
        self.kept.rename(self.place)


class WatchedPlatform:
    """Writes what the parts of a platform write."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.number = 0
        self._totals = BatchTotals()
        self._me = identify_myself()
        self._usage = UsageWatch()
        location = RegisteredCodeLocationOrigin(location_name="headrace")
        origin = RemoteRepositoryOrigin(code_location_origin=location, repository_name="__repository__")
        self._sensor = RemoteInstigatorOrigin(repository_origin=origin, instigator_name=SUPERVISOR)
        self._selector_id = self._sensor.get_selector().get_id()

    def beat(self, *, ill: bool = False) -> None:
        """One heartbeat of each group; of an ill one it is old, and its query does badly in every way."""
        self.number += 1
        now = time.time()
        self._totals = self._totals.add({WHOLE: 90_000 if ill else 700, "addBatch": 90_000 if ill else 500})
        progress = asdict(self._build_progress(now, ill))
        for group in GROUPS:
            at = now - _LONG_AGO_SECONDS if ill else now
            epoch = 2 * self.number if ill else 1
            beat = Heartbeat("run", at, self._me, "running", epoch, self._me, "events", 400.0 if ill else 0.5)
            used = self._usage.look(self._me, self._me, time.monotonic())
            write_heartbeat(self.instance, group.name, HostReport(beat, {"events": progress}, used))

    def _build_progress(self, now: float, ill: bool) -> QueryProgress:
        number, moment = self.number, datetime.fromtimestamp(now, UTC).isoformat()
        stuck_at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
        hour_ago = datetime.fromtimestamp(now - 3600, UTC).isoformat()
        return QueryProgress(
            "events", "q", number, 1000 * number, 1000.0, 0, stuck_at if ill else moment, {}, moment, True, moment,
            held_records=9 if ill else 0, bytes_in=400_000 * number, totals=self._totals,
            verdicts={"accepted": 950 * number, "quarantined": 90 * number if ill else number},
            unread_records=1000 * number if ill else 0, unread_since=hour_ago if ill else None,
            state_rows=10, state_bytes=1000, late_pending=4 if ill else 0, late_repaired=number,
            alerts=AlertProgress(3, number, number, number, hour_ago if ill else None, "It is away." if ill else ""),
            sink=SinkProgress(number, 1000 * number, hour_ago if ill else None, "It is away." if ill else ""),
        )  # fmt: skip

    def tick(self, *, ill: bool = False) -> None:
        """The supervisor's tick, an old one if it is ill."""
        now = time.time()
        states = {
            group.name: SupervisorState(
                _ILL_PHASES[group.name] if ill else Phase.RUNNING, now - 60, ("events",) if ill else ()
            )
            for group in GROUPS
        }
        at = now - _LONG_AGO_SECONDS if ill else now
        data = SensorInstigatorData(last_tick_timestamp=at, last_tick_start_timestamp=at, cursor=format_cursor(states))
        state = InstigatorState(self._sensor, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
        if self.instance.get_instigator_state(self._sensor.get_id(), self._selector_id) is None:
            self.instance.add_instigator_state(state)
        else:
            self.instance.update_instigator_state(state)

    def run_checks(self, *, passed: bool) -> None:
        _PASSED["passed"] = passed
        _DEFINITIONS.resolve_job_def("checks").execute_in_process(instance=self.instance)

    def age_verdicts(self) -> None:
        """Makes the checks' verdicts four hours old."""
        storage = self.instance.event_log_storage
        assert isinstance(storage, SqlEventLogStorage)
        for key, record in storage.get_latest_asset_check_execution_by_key(KEYS).items():
            [newest] = storage.get_asset_check_partition_info([key])
            assert record.event is not None
            older = record.event._replace(timestamp=record.event.timestamp - _LONG_AGO_SECONDS)
            storage.store_asset_check_event(older, newest.latest_check_event_storage_id)

    def break_storage(self) -> BrokenStorage:
        """Puts a file in the place of the folder of the databases."""
        place = self._database.parent
        kept = place.with_name("kept")
        place.rename(kept)  # as a whole: what SQLite has written last lies next to each database
        place.write_bytes(b"no folder")
        return BrokenStorage(kept, place)

    @contextmanager
    def lock_storage(self) -> Iterator[None]:
        """Nobody reads the database meanwhile."""
        connection = sqlite3.connect(self._database)
        try:
            connection.execute("pragma locking_mode = exclusive")
            connection.execute("begin exclusive")
            yield
        finally:
            connection.close()

    @property
    def _database(self) -> Path:
        return Path(self.instance.root_directory, "history", "runs.db")


def say_as_older_code(instance: dg.DagsterInstance) -> None:
    """A heartbeat of code that knew no more than this."""
    progress: dict[str, Any] = {
        "query": "events", "query_id": "q", "batch_id": 1, "rows_in": 5, "rows_per_second": 1.0, "lag_records": 7,
        "watermark": "1970-01-01T00:00:00.000Z", "table_versions": {}, "last_commit_at": None, "busy": False,
    }  # fmt: skip
    beat = asdict(Heartbeat("run", time.time(), identify_myself(), "running", 1))
    value = {"v": 1, **beat, "queries": {"events": progress, "no_such_query": progress}}
    instance.daemon_cursor_storage.set_cursor_values({"headrace/heartbeat/clickstream": json.dumps(value)})
