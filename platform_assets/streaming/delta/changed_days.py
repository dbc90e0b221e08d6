"""Which days of a table have changed, and by which version last: what a report asks before it computes a day again.

A table that is partitioned by a day says in each commit of which days it adds or removes files, and whether rows
changed by it (compaction changes none). A stream's log is short, so the group keeps the sum in `platform.changed_days`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, open_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.tables.platform import CHANGED_DAYS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext


def find_changed_days(log: CommitLog, day_column: str, since: int, until: int) -> dict[date, int] | None:
    """The days whose rows the versions after `since`, up to and with `until`, changed; each with the newest of them.

    None when the log does not hold all of these versions any more.
    """
    found, whole_since = find_newest_changes(log, day_column, since, until)
    return found if whole_since == since else None


def find_newest_changes(log: CommitLog, day_column: str, since: int, until: int) -> tuple[dict[date, int], int]:
    """Does as `find_changed_days`, as far back as the log goes, and gives the version after which it has all."""
    found: dict[date, int] = {}
    for version in range(until, since, -1):
        actions = log.read_actions(version)
        if actions is None:
            return found, version
        for day in {day_of(file, day_column) for file in _changed_files(actions)}:
            found.setdefault(day, version)
    return found, since


def read_changed_since(rows: Iterable[Mapping[str, Any]], log: CommitLog, spec: TableSpec, since: int, until: int) -> (
    set[date] | None
):  # fmt: skip
    """The days of `spec`'s table that changed between two of its versions; None when nobody can say any more.

    `rows` are those of `platform.changed_days`; what they do not know yet is read in the table's log.
    """
    (day_column,) = spec.partition_columns
    own = [row for row in rows if row["table_name"] == spec.name]
    looked_at = max((row["version"] for row in own if row["day"] is None), default=since)
    tail = find_changed_days(log, day_column, max(looked_at, since), until)
    if tail is None:
        return None
    return {row["day"] for row in own if row["day"] is not None and row["version"] > since} | set(tail)


class ChangedDays:
    """Keeps `platform.changed_days` for the tables of a group that are partitioned by a day. Used from one thread."""

    def __init__(self, tables: Sequence[TableSpec], context: StreamContext) -> None:
        self._table = DeltaWriter(CHANGED_DAYS, context)
        self._storage_options = context.storage_options
        self._tables = [spec for spec in tables if is_partitioned_by_day(spec)]
        self._logs = {s.name: CommitLog(context.table_uri(s.name), "", context.storage_options) for s in self._tables}
        rows = self._table.read_arrow().to_pylist()
        self._looked_at: dict[str, int] = {row["table_name"]: row["version"] for row in rows if row["day"] is None}

    def write(self) -> None:
        """Takes in the commits since the last call. A crash loses none: how far it looked is in the same commit."""
        import pyarrow as pa

        now, rows = datetime.now(UTC), []
        reached = {spec.name: self._logs[spec.name].newest_version() for spec in self._tables}
        for spec in self._tables:
            until = reached[spec.name]
            if until == self._looked_at.get(spec.name):
                continue
            rows += [
                {"table_name": spec.name, "day": day, "version": version, "written_at": now}
                for day, version in ((None, until), *self._find_changed(spec, until).items())
            ]
        if rows:
            data = pa.Table.from_pylist(rows, build_arrow_schema(CHANGED_DAYS))
            self._table.put(data, "true", CommitInfo(CommitKind.CHANGED_DAYS, reached))
            self._looked_at = reached

    def _find_changed(self, spec: TableSpec, until: int) -> dict[date, int]:
        (day_column,) = spec.partition_columns
        log, since = self._logs[spec.name], self._looked_at.get(spec.name)
        changed = None if since is None else find_changed_days(log, day_column, since, until)
        if changed is not None:
            return changed
        # The log no longer tells: every day that the table has may have changed.
        partitions = open_table(log.uri, self._storage_options).partitions()
        return {date.fromisoformat(partition[day_column]): until for partition in partitions if partition[day_column]}


def is_partitioned_by_day(spec: TableSpec) -> bool:
    """Whether the table's only partition column is a date."""
    types = {column.name: column.type for column in spec.columns}
    return [types[name] for name in spec.partition_columns] == ["date"]


def _changed_files(actions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    files = [action.get("add") or action.get("remove") for action in actions]
    return [file for file in files if file is not None and file.get("dataChange", True)]


def day_of(file: Mapping[str, Any], day_column: str) -> date:
    """The day of a file that an action of the log names."""
    # A removal may leave the values out; the folder has them.
    values = file.get("partitionValues") or dict(part.split("=", 1) for part in file["path"].split("/")[:-1])
    return date.fromisoformat(values[day_column])
