"""One sink at work: what its table in Postgres is, and the next transaction that brings it nearer to the Delta table.

Rows and the version that they are stand in one transaction, so that a kill at any moment repeats it or does not. What
the log no longer says (it was cut, a file was removed, it is another table) is loaded anew, in portions that a kill
does not undo, next to the rows that stand there until the load has ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.errors import SinkTargetError
from platform_assets.sinks import accounts, target_table
from platform_assets.sinks.accounts import Account, Load, MovedError
from platform_assets.sinks.changed_rows import find_changed_rows
from platform_assets.sinks.file_rows import has_values, read_rows
from platform_assets.sinks.table_log import LogGapError, TableLog
from platform_assets.sinks.table_version import build_nullable_schema, cut_portions, list_files, open_version
from platform_assets.sinks.target import Target
from platform_assets.streaming.progress import QueryProgress, SinkProgress
from resources import postgres

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

# What nobody's commit shows: a load that was asked for, a table that was dropped or made anew, a database that is away.
_LOOK_SECONDS = 15.0
# Listing a log of 20,000 commits takes a disk 50 ms, and an object store 20 requests.
_LIST_SECONDS = 60.0
_ANEW_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Sink:
    """One table's sink. Its methods are called from one thread; the plain values may be read from any.

    `check_lease` is called before each commit, and raises where another host has taken over.
    """

    def __init__(
        self,
        target: Target,
        url: str,
        lakehouse: LakehouseResource,
        engine: DuckDBResource,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        self.target = target
        self.subject = f"The sink of {target.table.name}"
        self.version: int | None = None
        self.rows = 0
        self.behind_since: datetime | None = None
        self.rows_applied = 0
        self.transactions = 0
        self.last_commit_at: datetime | None = None
        self._url = url
        self._lakehouse, self._engine = lakehouse, engine
        self._check_lease = check_lease
        self._log = TableLog(target.table.name, lakehouse.table_uri(target.table.name), lakehouse.storage_options())
        self._connection: Connection | None = None
        self._account: Account | None = None
        self._looked_at = 0.0
        self._listed_at = -_LIST_SECONDS
        self._begun_anew_at = -_ANEW_SECONDS

    def advance(self) -> bool:
        """Does the next transaction; False when there is nothing to do now.

        Raises `DatabaseUnavailableError`, `SinkTargetError`, what `check_lease` raises, and what the lakehouse's disk
        or store does. Nothing has changed then, and the next call tries the same again.
        """
        try:
            if self._account is None or time.monotonic() - self._looked_at > _LOOK_SECONDS:
                self._account = self._look()
                self._looked_at = time.monotonic()
            if self._account.version is None:
                return self._load(self._account)
            return self._follow(self._account)
        except MovedError as error:
            _log.info("%s", error)
            self._account = None
            return True
        except LogGapError as error:
            # A damaged table, whose load meets the same again, must not be loaded in a loop.
            if time.monotonic() - self._begun_anew_at < _ANEW_SECONDS:
                raise LogGapError(
                    f"{self.target.table.name} cannot be loaded: {error}. Look at the table; the load is tried again."
                ) from error
            self._begun_anew_at = time.monotonic()
            self._begin_anew(str(error))
            return True

    def note_lag(self) -> None:
        """Looks when the oldest commit was made that is not applied: also while the database is away."""
        if self.version is not None and self.behind_since is None:
            self.behind_since = self._log.read_time(self.version + 1)

    @property
    def lakehouse_root(self) -> str:
        """The root of the lakehouse that the Delta table is in."""
        return self._lakehouse.root_uri

    @property
    def is_connected(self) -> bool:
        """Whether it holds a connection to the database."""
        return self._connection is not None

    def newest_version(self) -> int | None:
        """The Delta table's version now; None where there is no table."""
        bounds = self._log.read_bounds()
        return None if bounds is None else bounds[1]

    def describe(self, name: str, trouble: str, *, is_busy: bool) -> QueryProgress:
        """How far it is, as `Follower.describe`."""
        behind = None if self.behind_since is None else self.behind_since.astimezone(UTC).isoformat()
        last = None if self.last_commit_at is None else self.last_commit_at.astimezone(UTC).isoformat()
        versions = {} if self.version is None else {self.target.table.name: self.version}
        return QueryProgress(
            query=name, query_id=self.target.name, batch_id=self.transactions, rows_in=self.rows_applied,
            rows_per_second=0.0, lag_records=None, watermark=None, table_versions=versions, last_commit_at=last,
            busy=is_busy, sink=SinkProgress(self.version, self.rows, behind, trouble),
        )  # fmt: skip

    def close(self) -> None:
        """Lets go of the connection. What was not committed is not there."""
        connection, self._connection, self._account = self._connection, None, None
        self._listed_at = -_LIST_SECONDS
        if connection is not None:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = postgres.connect(self._url)
        with postgres.transaction(self._connection, self._url) as cursor:
            yield cursor
            if self._check_lease is not None:
                self._check_lease()

    def _look(self) -> Account:
        """The account, with a table of the shape that the spec asks for, whose log can be followed.

        Raises `LogGapError` where it must be loaded anew.
        """
        with self._transaction() as cursor:
            accounts.ensure_accounts(cursor, self.target.schema)
            account = accounts.read_account(cursor, self.target)
            self.version, self.rows = account.version, account.rows
            shape = target_table.read_shape(cursor, self.target)
            if account.version is None:
                if account.load is not None and not target_table.is_loading(cursor, self.target):
                    raise LogGapError("the load that has begun is of other columns")
                return account
            if shape is None:
                raise LogGapError(f"{self.target.qualify()} was dropped")
            account = self._add_new_columns(cursor, account, shape)
        assert account.version is not None and account.digest is not None
        if time.monotonic() - self._listed_at > _LIST_SECONDS and self._log.read_bounds() is not None:
            self._log.demand_followed(account.version, account.digest)
            self._listed_at = time.monotonic()
        return account

    def _add_new_columns(self, cursor: Any, account: Account, shape: target_table.Shape) -> Account:
        """Adds columns that are new in the spec; raises `SinkTargetError` for what somebody must decide on."""
        new = [c for c in self.target.columns if c.name not in account.columns and c.name not in shape.columns]
        grown = replace(shape, columns={**shape.columns, **{column.name: column.type for column in new}})
        if breaches := target_table.find_breaches(self.target, grown):
            raise SinkTargetError(
                f"{self.target.qualify()} in Postgres is not as its sink has made it: {' '.join(breaches)} Have it "
                f"made anew: headrace sink resync {self.target.table.name} --because ..."
            )
        if not new:
            return account
        assert account.version is not None
        table = open_version(self._lakehouse, self.target.table.name, account.version)
        for column in new:
            if has_values(self._log.files, list_files(table), column.name):
                raise LogGapError(f"its column {column.name}, which is new here, has values already")
        target_table.add_columns(cursor, self.target, new)
        accounts.note_columns(cursor, self.target)
        accounts.replace_totals(cursor, self.target, target_table.read_day_totals(cursor, self.target))
        _log.warning("%s has got the column %s.", self.target.qualify(), ", ".join(column.name for column in new))
        return accounts.read_account(cursor, self.target)

    def _follow(self, account: Account) -> bool:
        """Applies the next versions."""
        assert account.version is not None and account.digest is not None and account.table_id is not None
        step = self._log.read_step(account.version, account.digest, account.table_id)
        if step is None:
            self.behind_since = None
            return False
        self.behind_since = step.first_committed_at
        schema = build_nullable_schema(self.target.table)
        with (
            find_changed_rows(self._engine, self._log.files, step, self.target.table, schema) as changed,
            self._transaction() as cursor,
        ):
            accounts.lock_account(cursor, self.target, account)
            rows, totals = target_table.change_rows(cursor, self.target, changed.gone, changed.come)
            accounts.add_totals(cursor, self.target, totals)
            accounts.note_version(cursor, self.target, account.table_id, step.version, step.digest, step.committed_at)
            account = accounts.read_account(cursor, self.target)
        self._account = account
        self._count(account, rows)
        return True

    def _count(self, account: Account, rows: int) -> None:
        self.transactions += 1
        self.rows_applied += rows
        self.version, self.rows = account.version, account.rows
        self.last_commit_at = datetime.now().astimezone()
        self.behind_since = None if account.version is None else self._log.read_time(account.version + 1)

    def _begin_anew(self, why: str) -> None:
        _log.warning(
            "%s is loaded anew from %s: %s. Its rows stay as they are until the load has ended.",
            self.target.qualify(), self.target.table.name, why,
        )  # fmt: skip
        with self._transaction() as cursor:
            accounts.request_load(cursor, self.target)
        self._account, self.version = None, None

    def _load(self, account: Account) -> bool:
        """Does the next part of a load: its beginning, a portion, or its end."""
        if account.load is None:
            return self._begin_load(account)
        load = account.load
        table = open_version(self._lakehouse, self.target.table.name, load.version, load.table_id)
        portions = cut_portions(list_files(table))
        rows = 0
        with self._transaction() as cursor:
            accounts.lock_account(cursor, self.target, account)
            if load.portions < len(portions):
                batches = read_rows(self._log.files, portions[load.portions], build_nullable_schema(self.target.table))
                rows = target_table.copy_into_loading(cursor, self.target, batches)
                accounts.note_portion(cursor, self.target)
            else:
                self._end_load(cursor, load)
            account = accounts.read_account(cursor, self.target)
        self._account = account
        self._count(account, rows)
        if account.version is not None:
            _log.warning(
                "%s is loaded: version %d, %s rows.", self.target.qualify(), account.version, f"{account.rows:,}"
            )
        return True

    def _begin_load(self, account: Account) -> bool:
        table = self._lakehouse.find_table(self.target.table.name)
        if table is None:
            return False
        version = table.version()
        digest = self._log.read_digest(version)
        if digest is None:  # a log that ends with a checkpoint: the next commit of its writer has one
            return False
        with self._transaction() as cursor:
            accounts.lock_account(cursor, self.target, account)
            target_table.create_loading(cursor, self.target)
            accounts.begin_load(cursor, self.target, Load(str(table.metadata().id), version, digest, 0))
            account = accounts.read_account(cursor, self.target)
        self._account = account
        return True

    def _end_load(self, cursor: Any, load: Load) -> None:
        totals = target_table.put_in_place(cursor, self.target)
        accounts.replace_totals(cursor, self.target, totals)
        committed_at = self._log.read_time(load.version)
        accounts.note_version(cursor, self.target, load.table_id, load.version, load.digest, committed_at)
