"""Reads the log of a Delta table commit by commit: which files a commit appended, and up to which time.

The log's layout is Delta's public protocol (https://github.com/delta-io/delta/blob/master/PROTOCOL.md): one JSON file
a version, one action a line. delta-rs reads states of a table, not single commits; it opens the files here, so that any
root works that it opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from platform_assets.folders import Folder
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.moments import count_micros

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

# delta-rs takes 60 MiB in each process that uses it, and a fresh platform has one of each stream; so it is left out
# where a log is as short as it is then. Adding up takes as long as delta-rs does at about this length.
_COMMITS_TO_ADD_UP = 50


@dataclass(frozen=True)
class AppendedFile:
    """One Parquet file of appended rows. Times are event times in microseconds, None where the log has no statistics.

    delta-rs and Spark round to whole milliseconds: `from_micros` down, `until_micros` down too.
    """

    path: str
    rows: int
    from_micros: int | None
    until_micros: int | None
    size_bytes: int = 0


@dataclass(frozen=True)
class Commit:
    """What one version appended: nothing, for a commit that rewrites, deletes or marks. `frontier` in microseconds.

    `rewrites`: it took rows out, or replaced them. `rows_by_type`: its rows by event type, where the writer said so.
    `requeues`: its rows had been read and quarantined before.
    """

    version: int
    files: tuple[AppendedFile, ...]
    frontier: int | None
    rewrites: bool = False
    rows_by_type: Mapping[str, int] | None = None
    requeues: bool = False

    @property
    def rows(self) -> int:
        """Appended rows."""
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Size of the appended files."""
        return sum(file.size_bytes for file in self.files)


class CommitLog:
    """The log of one table. `time_column` is the column whose statistics order its files."""

    def __init__(self, uri: str, time_column: str, storage_options: Mapping[str, str]) -> None:
        self.uri = uri
        self._time_column = time_column
        self._storage_options = dict(storage_options)
        self._folder = Folder(uri, self._storage_options)

    @property
    def filesystem(self) -> FileSystem:
        """The table's folder as Arrow's file system."""
        return self._folder.files

    def newest_version(self) -> int:
        """The table's version now, by the names in its log. Raises `FileNotFoundError` where there is no table."""
        return max(self._list_versions())

    def oldest_version(self) -> int:
        """The first version whose commit the log still holds. Raises as `newest_version`."""
        return min(self._list_versions())

    def _list_versions(self) -> list[int]:
        from pyarrow.fs import FileSelector

        names = (Path(info.path) for info in self.filesystem.get_file_info(FileSelector("_delta_log")))
        return [int(name.stem) for name in names if name.suffix == ".json" and name.stem.isdigit()]

    def read(self, version: int) -> Commit | None:
        """One commit; None when the log does not hold it: not yet, or no longer."""
        actions = self.read_actions(version)
        return None if actions is None else self._parse(version, actions)

    def read_actions(self, version: int) -> list[dict[str, Any]] | None:
        """The actions of one commit as the protocol has them; None as in `read`."""
        content = self._folder.read_file(f"_delta_log/{version:020d}.json")
        # Not by `splitlines`: a statistic may have a sign in it that ends a line for Python and not in JSON.
        return None if content is None else [json.loads(line) for line in content.split(b"\n") if line.strip()]

    def read_table(self, version: int) -> tuple[list[AppendedFile], int | None]:
        """All files of one version, by event time, and the frontier that its newest commit with one holds."""
        files = self._add_up(version) if version < _COMMITS_TO_ADD_UP else None
        files = self._read_state(version) if files is None else files
        files.sort(key=lambda file: (file.from_micros is not None, file.from_micros, file.path))
        return files, self._find_frontier(version)

    def _add_up(self, version: int) -> list[AppendedFile] | None:
        """The files of one version, by all commits up to it; None when the log no longer holds them all."""
        files: dict[str, AppendedFile] = {}
        for number in range(version + 1):
            if (actions := self.read_actions(number)) is None:
                return None
            for action in actions:
                if "remove" in action:
                    files.pop(unquote(action["remove"]["path"]), None)
                elif "add" in action:
                    file = self.parse_add(action["add"])
                    files[file.path] = file
        return list(files.values())

    def _read_state(self, version: int) -> list[AppendedFile]:
        """The files of one version, by delta-rs, which begins with the log's newest checkpoint."""
        import pyarrow as pa

        from platform_assets.delta_reader import ArrowReadTable

        table = ArrowReadTable(self.uri, version=version, storage_options=self._storage_options)
        return [
            AppendedFile(
                unquote(action["path"]), action["num_records"] or 0,
                to_micros((action["min"] or {}).get(self._time_column)),
                to_micros((action["max"] or {}).get(self._time_column)),
                action["size_bytes"],
            )
            for action in pa.table(table.get_add_actions()).to_pylist()
        ]  # fmt: skip

    def read_rows(
        self, path: str, columns: Sequence[str], event_types: Sequence[str] = (), type_column: str | None = None
    ) -> pa.Table:
        """Columns of one file's rows of these types (none: all). A column that the file does not know is null.

        `type_column` has the types; it may be None where none are named.
        """
        import pyarrow as pa

        return pa.concat_tables(self.read_groups(path, columns, event_types, type_column))

    def read_groups(
        self,
        path: str,
        columns: Sequence[str],
        event_types: Sequence[str] = (),
        type_column: str | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[pa.Table]:
        """Reads as `read_rows`, one row group after the other; with `share` (which, of how many) only some of them.

        A share has groups that follow each other, and may have none; each group is in one share.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        read = set(columns)
        if event_types:
            assert type_column is not None
            read.add(type_column)
        # Columns that lie near each other come in one request of an object store, as in `pq.read_table`.
        with pq.ParquetFile(path, filesystem=self.filesystem, pre_buffer=True) as file:
            # A file of older code lacks the columns that were added since: a dataset refuses to read them.
            known = sorted(read.intersection(file.schema_arrow.names))
            which, shares = share
            first, end = (file.num_row_groups * number // shares for number in (which, which + 1))
            # A file without rows has no group, and is read as it is.
            parts = [[number] for number in range(first, end)] if file.num_row_groups else [[]]
            for groups in parts:
                rows = _as_plain_texts(file.read_row_groups(groups, columns=known))
                if event_types:
                    rows = rows.filter(pc.is_in(rows.column(type_column), pa.array(event_types)))
                for name in columns:
                    if name not in rows.column_names:
                        rows = rows.append_column(name, pa.nulls(len(rows)))
                yield rows.select(list(columns))

    def _find_frontier(self, version: int) -> int | None:
        while (commit := self.read(version)) is not None:
            if commit.frontier is not None:
                return commit.frontier
            version -= 1
        return None

    def _parse(self, version: int, actions: list[dict[str, Any]]) -> Commit:
        info: dict[str, Any] = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        ours = CommitInfo.parse(info.get("userMetadata"))
        rewrites = any(a["remove"].get("dataChange", True) for a in actions if "remove" in a)
        # Where it only brings rows back, a replay's commit has nothing to remove.
        rewrites = rewrites or (ours is not None and ours.kind is CommitKind.REPLAY)
        added = [a["add"] for a in actions if "add" in a and a["add"].get("dataChange", True)]
        # Rows that a rewrite brings back have been read, when they were appended.
        files = tuple(self.parse_add(add) for add in added if not rewrites)
        if ours is not None:
            requeues = ours.kind is CommitKind.REQUEUE
            return Commit(version, files, ours.frontier_micros, rewrites, ours.rows_by_type, requeues)
        return Commit(version, files, _frontier_of_others(files, info), rewrites)

    def parse_add(self, add: Mapping[str, Any]) -> AppendedFile:
        """The file of an `add` action."""
        statistics = json.loads(add.get("stats") or "{}")
        low, high = (statistics.get(side, {}).get(self._time_column) for side in ("minValues", "maxValues"))
        rows = statistics.get("numRecords", 0)
        return AppendedFile(unquote(add["path"]), rows, to_micros(low), to_micros(high), add["size"])


def _as_plain_texts(rows: pa.Table) -> pa.Table:
    """The rows without view types, which files of delta-rs have that it has rewritten (compaction, merge).

    Arrow's filters do not know these yet (https://github.com/apache/arrow/issues/49368).
    """
    import pyarrow as pa

    return rows.cast(pa.schema([f.with_type(pa.string()) if f.type == pa.string_view() else f for f in rows.schema]))


def _frontier_of_others(files: tuple[AppendedFile, ...], info: dict[str, Any]) -> int | None:
    """The frontier of rows that another program appended: their latest event, but not later than the commit."""
    times = [file.until_micros for file in files if file.until_micros is not None]
    return min(max(times), int(info["timestamp"]) * 1000) if times and "timestamp" in info else None


def to_micros(value: str | datetime | None) -> int | None:
    """A statistic of the log in microseconds since the epoch; one without a zone is UTC."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return count_micros(moment)
