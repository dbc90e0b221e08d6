"""Keeps what a panel needs of a table's rows, file by file: a commit costs the files that it brings.

A file of a Delta table never changes. What was kept of it holds until a commit takes the file away, whatever the table
did meanwhile: appends, upserts, repairs, erasures and compaction are all one here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jobs.page.followed_table import FollowedTable
from platform_assets.delta_reader import register_files
from platform_assets.errors import TableSchemaError
from platform_assets.streaming.delta.commit_log import to_micros
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.moments import count_micros
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb

    from resources.lakehouse import LakehouseResource

# Read and forgotten together. One by one, a table of a thousand small files would take seconds at the start; all in
# one, an upsert that replaces one of them would have all of them read again.
_FILES_OF_A_UNIT = 32
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# More commits than these are cheaper to skip: the table's state is read instead.
_MOST_COMMITS = 200


@dataclass(frozen=True)
class Kept:
    """What is kept of a table's rows.

    `sql` (DuckDB) selects it from `file_rows`, some files' rows with the table's columns; `$since` in it is the moment
    from which on rows matter. `time_column` is a timestamp among the table's statistics: files whose rows all lie
    before `since` are not read. `find_since` says that moment, by the newest one in the table that is not in the
    future; None: all rows matter. The result is the relation `name`, whose column `unit` is the page's own; with
    `find_since` it has a column `moment`, by which old rows are forgotten.
    """

    name: str
    table: TableSpec
    sql: str
    time_column: str = ""
    find_since: Callable[[datetime], datetime] | None = None


@dataclass(frozen=True)
class _File:
    """A file as `register_files` takes it; `until_micros`: when its last row was, as the log says."""

    action: Mapping[str, Any]
    until_micros: int | None

    @property
    def path(self) -> str:
        return unquote(self.action["path"])


class KeptRows:
    """The rows of one `Kept` in a connection, where `name` is a table. From one thread at a time.

    `has_rows`: the table was read, once at least. `newest` is the newest time of its rows that was not in the future
    when it was read; None before the first.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lakehouse: LakehouseResource, kept: Kept, table: FollowedTable
    ) -> None:
        self.kept = kept
        self.newest: datetime | None = None
        self.has_rows = False
        self._connection = connection
        self._lakehouse = lakehouse
        self._table = table
        self._state: tuple[int, int] | None = None  # generation and version that `name` stands for
        self._delta: Any = None
        self._units: dict[int, set[str]] = {}
        self._unit_of: dict[str, int] = {}
        self._files: dict[str, _File] = {}
        self._next_unit = 0
        self._since: datetime | None = None

    def follow(self, now: datetime) -> bool:
        """Brings the rows to the version that the followed table has; whether any commit came.

        Raises what the disk, the store and DuckDB raise, and `TableSchemaError` for a table whose files do not hold its
        rows as they are. The rows then stand as they were, and the next call tries again.
        """
        wanted = self._table.version
        if wanted is None or self._state == (self._table.generation, wanted):
            return False
        commits = self._read_commits(wanted)
        self._connection.execute("BEGIN")
        try:
            if commits is None:
                self._load(now)
            else:
                self._apply(commits, now)
            self._connection.execute("COMMIT")
        except BaseException:
            self._state = None  # what is known of the files may be half new: all is read again
            self._connection.execute("ROLLBACK")
            raise
        self._state, self.has_rows = (self._table.generation, wanted), True
        return True

    def forget_old(self) -> None:
        """Removes rows that no longer matter. Called now and then: they are left out by what asks, too."""
        if self._since is not None and self.has_rows:
            self._connection.execute(f"DELETE FROM {self.kept.name} WHERE moment < ?", [self._since])

    def _read_commits(self, wanted: int) -> list[list[dict[str, Any]]] | None:
        """The commits since the version that is known; None where the table's state is to be read instead."""
        if self._state is None or self._state[0] != self._table.generation or wanted - self._state[1] > _MOST_COMMITS:
            return None
        found = [self._table.read_commit(version) for version in range(self._state[1] + 1, wanted + 1)]
        return None if any(commit is None for commit in found) else [commit for commit in found if commit is not None]

    def _load(self, now: datetime) -> None:
        import pyarrow as pa

        self._delta = self._lakehouse.delta_table(self.kept.table.name)
        # The followed version, not the newest: commits after it are still to come.
        self._delta.load_as_version(self._table.version)
        if self._delta.protocol().min_reader_version > 2:
            raise TableSchemaError(f"{self.kept.table.name} needs a newer reader than this page: docs/live-page.md.")
        self._units, self._unit_of, self._files = {}, {}, {}
        self.newest = self._since = None
        self._create()
        bound = f"max.{self.kept.time_column}"
        actions = pa.table(self._delta.get_add_actions(flatten=True)).to_pylist()
        files = [_File(action, to_micros(action.get(bound))) for action in actions]
        self._take_time(files, now)
        self._take(files)

    def _create(self) -> None:
        """Makes the relation, without rows, with the types that the query gives."""
        self._register([])
        self._connection.execute(
            f"CREATE OR REPLACE TABLE {self.kept.name} AS SELECT 0::BIGINT AS unit, * FROM ({self.kept.sql}) LIMIT 0",
            self._parameters(),
        )

    def _apply(self, commits: Sequence[Sequence[Mapping[str, Any]]], now: datetime) -> None:
        added: dict[str, _File] = {}
        gone: set[str] = set()
        for action in (action for commit in commits for action in commit):
            if "protocol" in action and action["protocol"]["minReaderVersion"] > 2:
                raise TableSchemaError(f"{self.kept.table.name} was changed so that this page cannot read it.")
            if "remove" in action:
                path = unquote(action["remove"]["path"])
                added.pop(path, None)
                gone.add(path)
            elif "add" in action:
                file = self._parse(action["add"])
                added[file.path] = file
        self._take_time(added.values(), now)
        self._take([*self._forget(gone), *added.values()])

    def _parse(self, add: Mapping[str, Any]) -> _File:
        # Tables are partitioned by dates, and by nothing else.
        days = {
            f"partition.{name}": None if value is None else date.fromisoformat(value)
            for name, value in add["partitionValues"].items()
        }
        until = self._table.log.parse_add(add).until_micros
        return _File({"path": add["path"], "size_bytes": add["size"], **days}, until)

    def _forget(self, paths: set[str]) -> list[_File]:
        """Forgets these files; returns those that were read together with one of them and are still there."""
        units = {self._unit_of[path] for path in paths if path in self._unit_of}
        left: list[_File] = []
        for unit in units:
            names = self._units.pop(unit)
            for name in names:
                del self._unit_of[name]
                file = self._files.pop(name)
                if name not in paths:
                    left.append(file)
        if units:
            self._connection.execute(f"DELETE FROM {self.kept.name} WHERE unit IN ({', '.join(map(str, units))})")
        return left

    def _take(self, files: Sequence[_File]) -> None:
        wanted = [file for file in files if self._matters(file)]
        for start in range(0, len(wanted), _FILES_OF_A_UNIT):
            part = wanted[start : start + _FILES_OF_A_UNIT]
            unit, self._next_unit = self._next_unit, self._next_unit + 1
            self._units[unit] = {file.path for file in part}
            self._unit_of |= {file.path: unit for file in part}
            self._files |= {file.path: file for file in part}
            self._register([file.action for file in part])
            self._connection.execute(
                f"INSERT INTO {self.kept.name} SELECT {unit}, * FROM ({self.kept.sql})", self._parameters()
            )

    def _register(self, actions: Sequence[Mapping[str, Any]]) -> None:
        register_files(self._connection, "file_rows", self._delta, actions, build_arrow_schema(self.kept.table))

    def _parameters(self) -> dict[str, Any]:
        return {"since": self._since or _LONG_AGO} if "$since" in self.kept.sql else {}

    def _matters(self, file: _File) -> bool:
        # The log has milliseconds, rounded down.
        until, since = file.until_micros, self._since
        return since is None or until is None or until + 1000 > count_micros(since)

    def _take_time(self, files: Iterable[_File], now: datetime) -> None:
        """Moves `newest`, and with it the moment from which on rows matter: forward only."""
        ends = [file.until_micros for file in files if file.until_micros is not None]
        if ends:
            newest = min(now, datetime.fromtimestamp(max(ends) / 1_000_000, UTC) + timedelta(milliseconds=1))
            self.newest = newest if self.newest is None else max(self.newest, newest)
        # Of an empty table nothing is known yet: its first rows may be of last year.
        if self.kept.find_since is not None and self.newest is not None:
            since = self.kept.find_since(self.newest)
            self._since = since if self._since is None else max(self._since, since)
