"""Removes rows of days that a policy says are over (`HEADRACE_RETENTION_DAYS`), and keeps account of them.

Whole days (UTC) of a table go in one commit, some at a time. The streams over the table pass the commit: it brings no
rows. What was removed is written down after it, found in the table's log, so that a crash between the two is made good
by the next call; rows of such days that somebody else has deleted are found there too. From then on checks do not miss
these rows, and nothing computes or reads them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from platform_assets.errors import SettingError
from platform_assets.streaming.delta.changed_days import day_of, is_partitioned_by_day
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.moments import as_delta_sql, find_midnight
from platform_assets.streaming.stream_spec import Stream, TableStream
from platform_assets.tables.platform import EXPIRED_ROWS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

# A policy that comes to a table of years is not to hold up upkeep and repairs.
_DAYS_OF_ONE_ROUND = 31
_ARRIVALS = ("quarantined_at", "deduplicated_at")


@dataclass(frozen=True)
class Kept:
    """A table whose rows expire: `days` are kept, by the column that says when a row was."""

    spec: TableSpec
    column: str
    days: int

    def first_day(self, now: datetime) -> date:
        """The first day that is kept; one that was kept once may go, and does not come back."""
        return now.astimezone(UTC).date() - timedelta(days=self.days)


def find_kept(streams: Iterable[Stream], retention_days: Mapping[str, int]) -> list[Kept]:
    """The tables of these streams that have a policy."""
    return [
        Kept(spec, _find_column(stream, spec), retention_days[spec.name])
        for stream in streams
        for spec in stream.tables
        if spec.name in retention_days
    ]


def check_policy(streams: Iterable[Stream], retention_days: Mapping[str, int]) -> None:
    """Raises `SettingError` for the name of what is no table of these streams, or has rows that no day is over for."""
    found = tuple(streams)
    names = [spec.name for stream in found for spec in stream.tables]
    latest = {stream.main_table.name for stream in found if isinstance(stream, TableStream) and stream.is_latest}
    if kept := sorted(latest & retention_days.keys()):
        raise SettingError(
            f"HEADRACE_RETENTION_DAYS: {', '.join(kept)} has the rows that hold now, however old. Leave it out; the "
            "changes that they follow from may expire."
        )
    if unknown := sorted(retention_days.keys() - set(names)):
        raise SettingError(
            f"HEADRACE_RETENTION_DAYS: {', '.join(unknown)} is no table of a stream. Those are: {', '.join(names)}."
        )


def _find_column(stream: Stream, spec: TableSpec) -> str:
    if spec.partition_columns:
        return spec.partition_columns[0]
    if isinstance(stream, TableStream):
        return stream.span.start_column
    return next(column.name for column in spec.columns if column.name in _ARRIVALS)


class Expiry:
    """Expires rows in the tables of a group. `tables` are those that its queries write. Call it from one thread."""

    def __init__(self, streams: Sequence[Stream], tables: Mapping[str, DeltaWriter], context: StreamContext) -> None:
        self._kept = [kept for kept in find_kept(streams, context.retention_days) if kept.spec.name in tables]
        self._tables = tables
        self._account = DeltaWriter(EXPIRED_ROWS, context)
        self._logs = {
            kept.spec.name: CommitLog(context.table_uri(kept.spec.name), "", context.storage_options)
            for kept in self._kept
        }

    def run(self, now: datetime) -> set[str]:
        """Removes what has expired, or a month of it; returns the names of the tables that lost rows."""
        known = self._account.read_arrow().to_pylist() if self._kept else []
        rows = []
        for kept in self._kept:
            self._remove(kept, kept.first_day(now))
            rows += self._find_removed(kept, known, now)
        self._write(rows)
        return {row["table_name"] for row in rows if "version" in row}

    def _remove(self, kept: Kept, first_day: date) -> None:
        table = self._tables[kept.spec.name]
        oldest = table.find_least(kept.column)
        if oldest is not None and oldest < first_day:
            until = min(first_day, oldest + timedelta(days=_DAYS_OF_ONE_ROUND))
            table.delete(f"{kept.column} < {_literal(kept, until)}", CommitInfo(CommitKind.EXPIRY, until.isoformat()))

    def _find_removed(self, kept: Kept, known: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
        """Rows of `EXPIRED_ROWS`: of each commit since the last look that took expired rows out, and of the look."""
        log, until = self._logs[kept.spec.name], self._logs[kept.spec.name].newest_version()
        look = next((row for row in known if row["table_name"] == kept.spec.name and row["version"] is None), None)
        since = log.oldest_version() - 1 if look is None else look["looked_at"]
        # A policy that is relaxed brings nothing back.
        first_day = max(kept.first_day(now), date.min if look is None else look["until_day"])
        if look is not None and (since, first_day) == (until, look["until_day"]):
            return []
        looked = {"table_name": kept.spec.name, "until_day": first_day, "looked_at": until, "written_at": now}
        rows = [looked]
        for version in range(since + 1, until + 1):
            by, count = _count_removed(log, version, kept.spec, first_day)
            if count:
                rows.append({**looked, "version": version, "rows": count, "removed_by": by})
        return rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        if rows:
            data = pa.Table.from_pylist(rows, build_arrow_schema(EXPIRED_ROWS))
            self._account.put(data, "true", CommitInfo(CommitKind.EXPIRED_ROWS, len(rows)))


@dataclass(frozen=True)
class Expired:
    """What has expired of a table: rows of days before `until`; how many each version took out."""

    until: date
    removed: tuple[tuple[int, int], ...]

    @property
    def start(self) -> datetime:
        """The first moment that is kept (UTC)."""
        return datetime.combine(self.until, time(), UTC)

    def count(self, after: int, until: int) -> int:
        """Rows that versions after the one, up to and with the other, took out."""
        return sum(rows for version, rows in self.removed if after < version <= until)


def read_expired(rows: Iterable[Mapping[str, Any]]) -> dict[str, Expired]:
    """What has expired, by table, from the rows of `EXPIRED_ROWS`; a table without a policy has none."""
    found = list(rows)
    looks = {row["table_name"]: row["until_day"] for row in found if row["version"] is None}
    removed: dict[str, list[tuple[int, int]]] = {}
    for row in found:
        if row["version"] is not None:
            removed.setdefault(row["table_name"], []).append((row["version"], row["rows"]))
    return {name: Expired(until, tuple(removed.get(name, ()))) for name, until in looks.items()}


def find_expired(lakehouse: Any) -> dict[str, Expired]:
    """What `read_expired` returns, for a lakehouse (`resources.lakehouse.LakehouseResource`)."""
    table = lakehouse.find_table(EXPIRED_ROWS.name)
    return {} if table is None else read_expired(table.to_pyarrow_table().to_pylist())


def find_kept_from(stream: TableStream, expired: Mapping[str, Expired]) -> datetime | None:
    """Rows of the stream's table that begin then or later are there, and follow from events that are; None: all do."""
    own, source = (expired.get(name) for name in (stream.main_table.name, stream.source.table.name))
    # What began before has lost events, and reaches so far into the days that are kept.
    starts = [own.start if own else None, source.start + stream.span.longest_open if source else None]
    return max((start for start in starts if start is not None), default=None)


def warn_of_expired(stream: TableStream, lakehouse: Any) -> str:
    """What is lost when the whole table is recomputed, as a sentence; empty when nothing is."""
    kept_from = find_kept_from(stream, find_expired(lakehouse))
    if kept_from is None:
        return ""
    name, since = stream.main_table.name, f"{kept_from:%Y-%m-%d %H:%M} UTC"
    return (
        f"Events before {since} have expired: a recomputed {name} has no rows of that time. To keep such rows, "
        f"recompute only later ones: headrace replay {stream.name} --range --swap"
    )


def _count_removed(log: CommitLog, version: int, spec: TableSpec, first_day: date) -> tuple[str, int]:
    """The writer that removed rows of expired days in this version, and how many; 0 if it did something else."""
    actions = log.read_actions(version) or []
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    ours = CommitInfo.parse(info.get("userMetadata"))
    files = [(kind, action[kind]) for action in actions for kind in ("add", "remove") if kind in action]
    files = [(kind, file) for kind, file in files if file.get("dataChange", True)]
    is_removal = any(kind == "remove" for kind, _ in files)
    if not is_removal or (ours.kind is not CommitKind.EXPIRY if ours is not None else not is_partitioned_by_day(spec)):
        return "", 0
    if ours is None:
        (column,) = spec.partition_columns
        files = [(kind, file) for kind, file in files if day_of(file, column) < first_day]
    before = {file.path: file.rows for file in log.read_table(version - 1)[0]}
    removed = sum(before[unquote(file["path"])] for kind, file in files if kind == "remove")
    added = sum(log.parse_add(file).rows for kind, file in files if kind == "add")
    return "retention" if ours is not None else "somebody", removed - added


def _literal(kept: Kept, day: date) -> str:
    types = {column.name: column.type for column in kept.spec.columns}
    if types[kept.column] == "date":
        return f"date '{day}'"
    return as_delta_sql(find_midnight(day))
