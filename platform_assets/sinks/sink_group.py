"""Runs the sinks of a group, each in a thread of its own. The counterpart of `query_group`, without Spark.

A database that is away, or one table that somebody has changed, is no failure of the group: that sink says so once, is
tried again, and goes on by itself. The streams that write the tables know nothing of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from platform_assets.errors import (
    DatabaseUnavailableError,
    GroupOwnedError,
    HeadraceError,
    QueryFailedError,
    StoreUnavailableError,
)
from platform_assets.sinks import accounts
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.target import Target
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.progress import QueryProgress, SinkProgress
from platform_assets.streaming.stream_spec import name_sink
from resources import postgres
from resources.duckdb import DuckDBResource

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# How often a sink that has applied all looks for the next version: half of this is added to its lag.
_POLL_SECONDS = 0.3
# A database that comes back is met by all sinks at once; one that is away for a day is asked 2,880 times.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
# What differs between two versions of a file: DuckDB's memory for it, of each sink that is at work.
_MEMORY_MIB = 256

_log = logging.getLogger(__name__)


class SinkGroup:
    """See the module. `start` once, then `reconcile`, `progress`, `failure` as often as wanted, then `stop`."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: Settings,
        lakehouse: LakehouseResource,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        engine = DuckDBResource.from_settings(settings.model_copy(update={"reports_memory_mib": _MEMORY_MIB}))
        url = settings.postgres_url.get_secret_value()
        self._workers = {
            name_sink(target.table): _Worker(Sink(target, url, lakehouse, engine, check_lease)) for target in targets
        }
        self._targets, self._settings = targets, settings
        self._bounded = False

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Starts the sinks but those of `paused`; `bounded` ones end when they have applied what was there."""
        self._bounded = bounded
        if not bounded:
            self._name_left_behind()
        for name, worker in self._workers.items():
            if name not in paused:
                worker.start(bounded=bounded)

    def _name_left_behind(self) -> None:
        """Says which tables in the schema get old there, for nobody follows them. Away is said by the sinks."""
        try:
            left = find_left_behind(self._targets, self._settings)
        except HeadraceError:
            return
        for name in left:
            _log.warning("%s in Postgres is followed by no sink any more: drop it, or name it in "
                         "HEADRACE_POSTGRES_TABLES.", name)  # fmt: skip

    def reconcile(
        self, paused: frozenset[str] = frozenset(), restart_at: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Stops the sinks of `paused` between two transactions; starts those no longer in it, and older than a wish.

        Waits for none: one that is at work ends meanwhile, and is started again by a later call.
        """
        for name, worker in self._workers.items():
            if name in paused or restart_at.get(name, 0.0) > worker.started_at:
                worker.begin_stop()
            if name not in paused and not worker.is_active and worker.failure is None:
                worker.start()

    def progress(self) -> dict[str, QueryProgress]:
        """Each started sink's progress, by its name."""
        return {name: worker.progress(name) for name, worker in self._workers.items() if worker.started_at}

    def failure(self) -> HeadraceError | None:
        """Why the first sink ended that did; None while all is well."""
        return next((worker.failure for worker in self._workers.values() if worker.failure is not None), None)

    def is_finished(self) -> bool:
        """Whether all bounded sinks have applied what was there."""
        return self._bounded and not any(worker.is_active for worker in self._workers.values()) and not self.failure()

    def stop(self, grace_seconds: float) -> None:
        """Lets the transactions in hand end within the grace; what is cut then is rolled back, and done again."""
        deadline = time.monotonic() + grace_seconds
        for worker in self._workers.values():
            worker.begin_stop()
        for worker in self._workers.values():
            worker.stop(max(0.0, deadline - time.monotonic()))


class _Worker:
    """One sink's thread."""

    def __init__(self, sink: Sink) -> None:
        self.failure: HeadraceError | None = None
        self.started_at = 0.0
        self._sink = sink
        self._trouble = self._said = ""
        self._busy = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_active(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, bounded: bool = False) -> None:
        self.started_at = time.time()
        self._stopping.clear()
        name = f"sink-{self._sink.target.name}"
        self._thread = threading.Thread(target=self._run, args=(bounded,), name=name, daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        self._stopping.set()

    def stop(self, timeout_seconds: float | None = None) -> None:
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def progress(self, name: str) -> QueryProgress:
        sink = self._sink
        behind = None if sink.behind_since is None else sink.behind_since.astimezone(UTC).isoformat()
        last = None if sink.last_commit_at is None else sink.last_commit_at.astimezone(UTC).isoformat()
        versions = {} if sink.version is None else {sink.target.table.name: sink.version}
        return QueryProgress(
            query=name, query_id=sink.target.name, batch_id=sink.transactions, rows_in=sink.rows_applied,
            rows_per_second=0.0, lag_records=None, watermark=None, table_versions=versions, last_commit_at=last,
            busy=self._busy, sink=SinkProgress(sink.version, sink.rows, behind, self._trouble),
        )  # fmt: skip

    def _run(self, bounded: bool) -> None:
        try:
            goal = self._sink.newest_version() if bounded else None
            wait = _FIRST_WAIT_SECONDS
            while not self._stopping.is_set():
                trouble = self._try(bounded)
                if trouble is not None:
                    self._say(trouble)
                    # A table that somebody must look at is looked at as rarely as a database that stays away.
                    wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)
                    self._stopping.wait(wait)
                    continue
                wait = _FIRST_WAIT_SECONDS
                if bounded and (goal is None or (self._sink.version is not None and self._sink.version >= goal)):
                    return
        except HeadraceError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it must reach the host and not end silently with this thread.
            _log.exception("The sink of %s has failed.", self._sink.target.table.name)
            self.failure = QueryFailedError(f"The sink of {self._sink.target.table.name} failed: {error}")
        finally:
            self._busy = False
            self._sink.close()

    def _try(self, bounded: bool) -> HeadraceError | None:
        """Does one transaction, or waits a moment where there is none; returns what keeps the sink from going on."""
        try:
            has_advanced = self._advance()
        except GroupOwnedError:
            raise
        except HeadraceError as error:
            if bounded:
                raise
            self._sink.close()
            with suppress(OSError):
                self._sink.note_lag()
            return error
        self._say_over()
        if not has_advanced:
            self._stopping.wait(_POLL_SECONDS)
        return None

    def _advance(self) -> bool:
        """What `Sink.advance` does; a lakehouse that cannot be read is an error of ours too."""
        from deltalake.exceptions import DeltaError

        self._busy = True
        try:
            return self._sink.advance()
        except (OSError, DeltaError) as error:
            said = next(iter(str(error).splitlines()), "")
            raise find_store_error(self._sink.lakehouse_root, str(error)) or StoreUnavailableError(
                f"The lakehouse cannot be read ({type(error).__name__}: {said}). The sink tries again, and goes on by "
                "itself."
            ) from error
        finally:
            self._busy = False

    def _say(self, trouble: HeadraceError) -> None:
        """Says it once: a database that is away for an hour leaves one line, not one with each try."""
        kind = type(trouble).__name__ if isinstance(trouble, DatabaseUnavailableError) else str(trouble)
        if kind != self._said:
            _log.warning("The sink of %s stands still. %s", self._sink.target.table.name, trouble)
        self._said, self._trouble = kind, str(trouble)

    def _say_over(self) -> None:
        if self._trouble:
            since = self._sink.behind_since
            behind = f", {datetime.now(UTC) - since} behind" if since is not None else ""
            _log.warning("The sink of %s goes on%s.", self._sink.target.table.name, behind)
        self._said = self._trouble = ""


def find_left_behind(targets: Sequence[Target], settings: Settings) -> tuple[str, ...]:
    """Tables in the schema that a sink has made and none of these targets follows: their rows get old there.

    Raises what a connection raises.
    """
    url, schema = settings.postgres_url.get_secret_value(), settings.postgres_schema
    connection = postgres.connect(url)
    try:
        with postgres.transaction(connection, url) as cursor:
            known = accounts.list_accounts(cursor, schema)
    finally:
        connection.close()
    return tuple(sorted(known.keys() - {target.table.name for target in targets}))
