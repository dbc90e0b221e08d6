"""The account of each hop from a table to a stream over it: which of its versions a batch read, what came of them.

Projected from what is on record when a batch is done: the query's checkpoint says which versions it read, the source's
commits how many rows of which type they appended, the table's commits how many rows the batch wrote. Spark's own count
of what it read is recorded too, so that a check can compare the two. A checkpoint keeps its last hundred batches:
those that are gone before they were projected are accounted for in one row with the next. Each append carries, as
Delta transaction, the last batch in it: no batch is in two rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.delta.commit_log import AppendedFile, CommitLog
from platform_assets.streaming.delta.delta_tables import (
    build_arrow_schema,
    create_table,
    open_table,
    read_commit_infos,
)
from platform_assets.streaming.derive.commit_source import BEFORE_FIRST, WHOLE_VERSION, find_files
from platform_assets.streaming.progress import INPUT, ROWS, is_batch, read_progresses
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import HOP_LEDGER, LATE_EVENTS

if TYPE_CHECKING:
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext

# The commits of a table that are looked at after a start; a checkpoint tells of a hundred batches.
_NEWEST_COMMITS = 1000

_Offset = Mapping[str, Any]
_Reports = Mapping[tuple[str, int], Mapping[str, Any]]


class HopLedger:
    """Used from one thread at a time, by one application; `has_executors` as in `read_report`."""

    def __init__(self, streams: Sequence[TableStream], context: StreamContext, *, has_executors: bool = False) -> None:
        self._context = context
        self._has_executors = has_executors
        self._streams = streams
        self._table = create_table(context.table_uri(HOP_LEDGER.name), HOP_LEDGER, context.storage_options)
        self._reached: dict[str, _Offset] = {}
        names = (LATE_EVENTS.name, *(stream.main_table.name for stream in self._streams))
        queries = frozenset(stream.name for stream in streams)
        self._written = {
            name: _WrittenRows(context.table_uri(name), context.storage_options, queries) for name in names
        }

    def write(self, queries: Sequence[StreamingQuery]) -> None:
        """Accounts for all batches that are done since the last call. A crash loses none, but what Spark said."""
        reports = {
            (report["id"], report["batchId"]): report
            for query in queries
            for report in read_progresses(query)
            if is_batch(report)
        }
        for written in self._written.values():
            written.update()
        for stream in self._streams:
            self._project(stream, reports)

    def _project(self, stream: TableStream, reports: _Reports) -> None:
        import pyarrow as pa

        checkpoint = Checkpoint.of(self._context, stream.main_table.name)
        done = checkpoint.read_last_committed_batch()
        if done is None:
            return
        app = checkpoint.read_txn_app_id(stream.name)
        self._table.update_incremental()
        projected = self._table.transaction_version(app)
        first = 0 if projected is None else projected + 1
        batches = [b for b in checkpoint.list_planned_batches() if first <= b <= done]
        if not batches:
            return
        source, reached, rows = _SourceRows(stream, self._context), self._find_reached(app, first - 1), []
        for batch in batches:
            plan = checkpoint.read_plan(batch)
            report = reports.get((app.rpartition("/")[2], batch)) if first == batch else None
            counts = source.count(reached, plan.source)
            rows.append(
                {
                    "query": stream.name,
                    "txn_app_id": app,
                    "first_batch_id": first,
                    "batch_id": batch,
                    "source_table": source.table_name,
                    "from_version": reached["version"],
                    "from_files": reached["files"],
                    "until_version": plan.source["version"],
                    "until_files": plan.source["files"],
                    "rows_out": self._written[stream.main_table.name].take(app, first, batch),
                    "rows_late": self._written[LATE_EVENTS.name].take(app, first, batch),
                    "planned_at": datetime.fromtimestamp(plan.time_micros / 1e6, UTC),
                    **counts,
                    **read_report(report, counts.get("rows_in"), has_executors=self._has_executors),
                }
            )
            first, reached = batch + 1, plan.source
        append_once(self._table, pa.Table.from_pylist(rows, build_arrow_schema(HOP_LEDGER)), app, batches[-1])
        self._reached[app] = reached

    def _find_reached(self, app: str, last: int) -> _Offset:
        """The offset that batch `last` has reached."""
        import pyarrow.compute as pc

        if last < 0:
            return BEFORE_FIRST
        if app not in self._reached:
            rows = self._table.to_pyarrow_dataset().to_table(filter=pc.field("batch_id") == last)
            (row,) = (row for row in rows.to_pylist() if row["txn_app_id"] == app)
            self._reached[app] = {"version": row["until_version"], "files": row["until_files"]}
        return self._reached[app]


def read_report(report: Mapping[str, Any] | None, rows_in: int | None, *, has_executors: bool) -> dict[str, int | None]:
    """What only Spark can say of a batch; `rows_in` are the rows that it was to read, where that is known.

    Where executors can be lost (`has_executors`) Spark runs tasks again whose output went with one, and counts their
    rows once more: a count above `rows_in` says nothing then.
    """
    if report is None:
        return {}
    states = report.get("stateOperators", [])
    read = report.get("observedMetrics", {}).get(INPUT, {}).get(ROWS)
    if has_executors and read is not None and rows_in is not None and read > rows_in:
        read = None
    return {
        "rows_read": read,
        "rows_in_state": sum(state["numRowsTotal"] for state in states),
        "rows_expired": sum(state["numRowsRemoved"] for state in states),
    }


class _WrittenRows:
    """How many rows the batches of these queries have written into one table, as its newest commits say."""

    def __init__(self, uri: str, storage_options: Mapping[str, str], queries: frozenset[str]) -> None:
        self._queries = queries
        self._uri = uri
        self._storage_options = storage_options
        self._version: int | None = None
        self._rows: dict[tuple[str, int], int] = {}

    def update(self) -> None:
        """Reads the commits since the last call, each once."""
        table = open_table(self._uri, self._storage_options)
        unseen = _NEWEST_COMMITS if self._version is None else table.version() - self._version
        for _, info in read_commit_infos(table, unseen) if unseen else []:
            # Those of another group's queries nobody would ever ask for.
            if info.transaction is not None and info.rows is not None and info.query in self._queries:
                self._rows[info.transaction] = info.rows
        self._version = table.version()

    def take(self, app: str, first: int, last: int) -> int:
        """Removes and returns the rows of these batches together: they are not asked for again."""
        return sum(self._rows.pop((app, batch), 0) for batch in range(first, last + 1))


class _SourceRows:
    """Counts what a stream's source has appended between two of its offsets."""

    def __init__(self, stream: TableStream, context: StreamContext) -> None:
        self.table_name = stream.source.table.name
        self._source = stream.source
        self._log = CommitLog(context.table_uri(self.table_name), stream.source.time_column, context.storage_options)

    def count(self, start: _Offset, end: _Offset) -> dict[str, int | None]:
        """`rows_passed`, all rows, and `rows_in`, those of the stream's types; nothing when the log no longer says."""
        passed = counted = 0
        if start["files"] != WHOLE_VERSION or start["version"] < 0:
            # All that a batch reads of a table's state is of one version; what follows is in the log.
            whole = {"version": start["version"], "files": WHOLE_VERSION}
            until = end if start["version"] in (-1, end["version"]) else whole
            files = find_files(self._log, dict(start), dict(until))
            passed, counted = sum(file.rows for file in files), self._count_types(files)
            start = until
        for version in range(start["version"] + 1, end["version"] + 1):
            commit = self._log.read(version)
            if commit is None:
                return {}
            passed += commit.rows
            if commit.rows_by_type is None:
                counted += self._count_types(commit.files)
            else:
                types = self._source.event_types or commit.rows_by_type
                counted += sum(commit.rows_by_type.get(name, 0) for name in types)
        return {"rows_passed": passed, "rows_in": counted}

    def _count_types(self, files: Sequence[AppendedFile]) -> int:
        """Counts types by reading the files: for rows whose writer has not recorded it."""
        if not self._source.event_types:
            return sum(file.rows for file in files)
        column = [self._source.time_column]
        types, type_column = self._source.event_types, self._source.table.roles.event_type
        return sum(len(self._log.read_rows(file.path, column, types, type_column)) for file in files)
