"""One alert at work: follows its table version by version, and writes what opens and closes, each exactly once.

Transitions carry, as Delta transaction, the version of the table up to which rows were looked at. After a kill the rows
since the last noted position are read again; what was written of them stands, up to that version.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from platform_assets.alerting import alert_table
from platform_assets.alerting.alert_spec import AlertSpec, name_alert_query
from platform_assets.alerting.alert_states import CLOSED, OPENED, AlertStates, Transition
from platform_assets.alerting.log_follower import LogFollower
from platform_assets.alerting.raised_rows import Raised, demand_valid, find_raised
from platform_assets.sinks.changed_rows import Told, find_changed_rows
from platform_assets.sinks.file_rows import read_rows
from platform_assets.sinks.table_log import LogGapError, Step
from platform_assets.sinks.table_version import list_files
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.progress import AlertProgress, QueryProgress
from resources.duckdb import KeptConnection

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

# Rows that raise what is open already are written this often: each time would be a commit for each of the table's.
_FLUSH_SECONDS = 60.0
# How late an alert may close: each look goes over all that are open.
_QUIET_SECONDS = 1.0

_log = logging.getLogger(__name__)


class AlertFollower(LogFollower):
    """See the module. A `Follower`: its methods are called from one thread, its plain values are read from any."""

    def __init__(
        self,
        spec: AlertSpec,
        lakehouse: LakehouseResource,
        engine: DuckDBResource,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(f"The alert {spec.name}", name_alert_query(spec.name), spec.table.name, lakehouse, check_lease)
        self.opened = self.closed = self.rows = 0
        self._spec, self._engine = spec, engine
        self._kept = KeptConnection(engine)
        self._begin()

    def _begin(self) -> None:
        self._states = AlertStates(self._spec)
        self._table: DeltaTable | None = None
        self._written = -1
        self._flushed_at = self._closed_quiet_at = time.monotonic()
        self._last_commit_at: datetime | None = None

    @property
    def _app(self) -> str:
        """The transaction of what was written. Of another table, whose versions begin again, it is another one."""
        assert self._followed.position is not None
        return f"headrace/alerts/{self._spec.name}/{self._followed.position.table_id}"

    def advance(self) -> bool:
        """Looks at the next versions, or closes what is quiet; False when there is nothing to do now.

        Raises what `check_lease` raises, `HeadraceError`, and what the lakehouse's disk or store does.
        """
        if not self._followed.is_open():
            return False
        if self._table is None:
            self._restore()
        try:
            step = self._followed.next_step(until=self._written if self._written > (self.version or 0) else None)
            if step is not None:
                self.behind_since = step.first_committed_at
                self._look_at(step)
                self._followed.pass_step(step)
                self._followed.note()
                return True
        except LogGapError as error:
            self._pass_gap(error)
            return True
        self.behind_since = None
        self._close_quiet()
        self._followed.note()
        return False

    def describe(self, name: str, trouble: str, *, is_busy: bool) -> QueryProgress:
        """How far it is, as `Follower.describe`."""
        behind = None if self.behind_since is None else self.behind_since.astimezone(UTC).isoformat()
        alerts = AlertProgress(len(self._states.open), self.opened, self.closed, None, behind, trouble)
        last = None if self._last_commit_at is None else self._last_commit_at.isoformat()
        return QueryProgress(
            query=name, query_id=self._spec.name, batch_id=self.version or 0, rows_in=self.rows, rows_per_second=0.0,
            lag_records=None, watermark=None, last_commit_at=last, busy=is_busy, alerts=alerts,
            table_versions={} if self.version is None else {self._spec.table.name: self.version},
        )  # fmt: skip

    def close(self) -> None:
        """Forgets what it knows of the tables: the next call of `advance` reads it again."""
        self._kept.close()
        self._followed = self._open_log()
        self._begin()

    def _restore(self) -> None:
        demand_valid(self._kept, self._spec)
        table = alert_table.open_alert_table(self._lakehouse)
        self._states.restore(*alert_table.read_open(self._engine, table, self._spec, datetime.now(UTC)))
        self._written = _find_written(table, self._app)
        self._table = table

    def _look_at(self, step: Step) -> None:
        if step.version <= self._written or not step.added:
            return
        schema = build_arrow_schema(self._spec.table)
        told = None
        if self._spec.recomputed_within is not None:
            told = Told((*self._spec.table.key, self._spec.time_column), self._spec.condition)
        with find_changed_rows(self._engine, self._followed.log.files, step, self._spec.table, schema, told) as changed:
            found = find_raised(self._kept, self._spec, changed.come, self._find_since(step.first_committed_at))
            self._take(chain.from_iterable(found), step.version, step.committed_at)

    def _find_since(self, committed_at: datetime) -> datetime | None:
        """Rows that happened before this are no news, where the table's rows are computed again and again."""
        within = self._spec.recomputed_within
        return None if within is None else committed_at - within

    def _take(self, found: Iterable[Raised], version: int, committed_at: datetime) -> None:
        raised = list(found)
        self.rows += sum(each.rows for each in raised)
        if transitions := list(self._states.take(raised, version, committed_at)):
            self._write([*transitions, *self._states.flush()], version)

    def _write(self, transitions: list[Transition], version: int, *, is_quiet: bool = False) -> None:
        """Writes them: all that comes of the table up to this version or, `is_quiet`, what time alone has done."""
        assert self._table is not None
        if self._check_lease is not None:
            self._check_lease()
        app, number = self._app, version
        if is_quiet:
            app, number = f"{self._app}/quiet", int(datetime.now(UTC).timestamp() * 1e6)
        self._table.update_incremental()
        alert_table.append_transitions(self._table, self._spec, transitions, app, number, version)
        self._written = max(self._written, version)
        self.opened += sum(each.transition == OPENED for each in transitions)
        self.closed += sum(each.transition == CLOSED for each in transitions)
        self._flushed_at = time.monotonic()
        self._last_commit_at = datetime.now(UTC)

    def _close_quiet(self) -> None:
        """Closes what nothing raises any more, and writes what has raised the others for a while."""
        version = self.version
        assert version is not None
        transitions: list[Transition] = []
        if time.monotonic() - self._closed_quiet_at > _QUIET_SECONDS:
            self._closed_quiet_at = time.monotonic()
            transitions = list(self._states.close_quiet(datetime.now(UTC)))
        if transitions or (self._states.has_pending and time.monotonic() - self._flushed_at > _FLUSH_SECONDS):
            self._write([*transitions, *self._states.flush()], version, is_quiet=version <= self._written)

    def _pass_gap(self, error: LogGapError) -> None:
        """Goes on at the newest version; rows of the time since the last one known are looked at, old ones are not."""
        before = self._followed.begin_anew()
        after, table = self._followed.position, self._lakehouse.find_table(self._spec.table.name)
        if before is None or after is None or table is None or self._table is None:
            return
        _log.warning(
            "The alert %s cannot follow its table: %s. It looks at the rows since %s, and goes on.",
            self._spec.name, error, before.committed_at.isoformat(timespec="seconds"),
        )  # fmt: skip
        self._written = _find_written(self._table, self._app)
        table.load_as_version(after.version)
        rows = read_rows(self._followed.log.files, list_files(table), build_arrow_schema(self._spec.table))
        since = max(before.committed_at, self._find_since(after.committed_at) or before.committed_at)
        found = find_raised(self._kept, self._spec, rows, since)
        self._take(chain.from_iterable(found), after.version, after.committed_at)
        self._followed.note(now=True)


def _find_written(table: DeltaTable, app: str) -> int:
    version = table.transaction_version(app)
    return -1 if version is None else version
