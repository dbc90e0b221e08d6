"""The source of the streams over a table: a Spark data source that reads a Delta table commit by commit.

Delta's own source hands out rows; this one also hands out the table's frontier (see `frontier`), so that a watermark
advances with what has been read and not with the latest event, and so that a mark without rows can close windows while
nothing happens. It costs a millisecond to find out that there is nothing new, where Delta's rebuilds the table's state
(0.4 s alone, 2 to 4 s on a busy machine), and it reads only the event types that a stream counts.

Offsets are versions of the table: `{"version": v, "files": n, "frontier": micros}` means that everything up to version
v has been read, or of version v's whole state only the first n files in the order of time (`files` -1: all). A query
without a checkpoint begins with the state: files in the order of their earliest event, the frontier at the earliest
event that is left. Commits that rewrite or delete bring no rows.

Spark runs this class in a Python process of its own for each query, and `read` in its pool of workers.
"""

from __future__ import annotations

import heapq
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from platform_assets.errors import LostCommitsError
from platform_assets.streaming.delta.commit_log import AppendedFile, CommitLog
from platform_assets.streaming.derive.distinct_rows import STANDS_FOR, keep_distinct
from platform_assets.streaming.frontier import later

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType

FORMAT = "headrace_commits"
FRONTIER_COLUMN = "frontier"

# Below this a second task costs more than it wins: each has a Python worker's start and end.
_ROWS_OF_ONE_TASK = 20_000
# What a task holds in Arrow at once. A commit of a second is a file of a few thousand rows, and each Arrow batch that
# crosses to the JVM costs as much as a thousand rows.
_ROWS_OF_ONE_ARROW_BATCH = 50_000

# It lists the log, which an object store bills.
_SECONDS_BETWEEN_CHECKS = 60.0

Offset = dict[str, Any]
FileShare = tuple[str, int, int]

WHOLE_VERSION = -1
BEFORE_FIRST: Offset = {"version": -1, "files": WHOLE_VERSION, "frontier": None}


class CommitSource(DataSource):
    """`spark.readStream.format(FORMAT)`.

    Options: `uri`, `ddl` (columns to read), `time_column`, `event_types` (JSON list; empty: all) and the `type_column`
    that has them, `storage_options` (JSON); `max_rows` and `max_bytes` of a batch, of all types and as the files are;
    `max_tasks` of a batch; `distinct_seconds` (see `keep_distinct`; 0: every row as it is).
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return FORMAT

    def schema(self) -> str:
        """The columns asked for, and `frontier`: a timestamp that is the same in all rows of a batch.

        With distinct rows also how many rows each stands for; a mark stands for none.
        """
        counted = f", {STANDS_FOR} bigint" if int(self.options["distinct_seconds"]) else ""
        return f"{self.options['ddl']}{counted}, {FRONTIER_COLUMN} timestamp"

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 (Spark's name)
        """Called by Spark at each start of a query."""
        return CommitReader(dict(self.options), schema)


@dataclass(frozen=True)
class BatchLimit:
    """How much of a backlog one batch reads: rows of all types, and bytes of files. None: no limit.

    A single commit is always read, and of a first state a single file.
    """

    rows: int | None = None
    size_bytes: int | None = None

    def is_passed(self, rows: int, size_bytes: int) -> bool:
        """Whether that is more than one batch reads."""
        return (self.rows is not None and rows > self.rows) or (
            self.size_bytes is not None and size_bytes > self.size_bytes
        )


class FileSlice(InputPartition):
    """What one task reads: shares of files, and whether it also brings the mark, a row with nothing but the frontier.

    A share is a path, which share it is, and of how many.
    """

    def __init__(self, files: list[FileShare], frontier: int | None, has_mark: bool) -> None:
        self.files = files
        self.frontier = frontier
        self.has_mark = has_mark


class CommitReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Plans batches over one table's commits, for one query."""

    def __init__(self, options: Mapping[str, str], schema: StructType) -> None:
        self._uri = options["uri"]
        self._time_column = options["time_column"]
        self._event_types: list[str] = json.loads(options["event_types"])
        self._type_column = options["type_column"]
        self._storage_options: dict[str, str] = json.loads(options["storage_options"])
        self._limit = BatchLimit(int(options["max_rows"]), int(options["max_bytes"]))
        self._max_tasks = int(options["max_tasks"])
        self._distinct_within = timedelta(seconds=int(options["distinct_seconds"]))
        self._columns = [name for name in schema.names if name not in (FRONTIER_COLUMN, STANDS_FOR)]
        self._schema = schema
        self._log: CommitLog | None = None
        self._checked_at: float | None = None
        self._last_version: int | None = None

    def initialOffset(self) -> Offset:  # noqa: N802
        """The offset before the table's first version."""
        return dict(BEFORE_FIRST)

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Says that there is one; what it is, `BatchLimit` says, which Spark has no word for."""
        assert self._limit.rows is not None
        return ReadMaxRows(self._limit.rows)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """A bounded query reads up to what is there now."""
        self._last_version = self._open_log().newest_version()

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:  # noqa: N802
        """The end of the next batch: whole commits, at least one. Raises `LostCommitsError`."""
        log = self._open_log()
        own = BatchLimit() if isinstance(limit, ReadAllAvailable) else self._limit
        if start["version"] < 0:
            version = log.newest_version() if self._last_version is None else self._last_version
            return self._plan_state(log, {**start, "version": version, "files": 0}, own)
        if start["files"] != WHOLE_VERSION:
            return self._plan_state(log, start, own)
        self._check_next_commit(log, start["version"])
        return plan_commits(log, start, own, self._last_version)

    def partitions(self, start: Offset, end: Offset) -> list[InputPartition]:
        """The files between two offsets, in tasks of about equal rows; the first one brings the mark."""
        if start == end:
            return []
        tasks = share_out(find_files(self._open_log(), start, end), self._max_tasks)
        return [FileSlice(shares, end["frontier"], number == 0) for number, shares in enumerate(tasks)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of the files, as the table has them or distinct, and the frontier."""
        import pyarrow as pa
        from pyspark.sql.pandas.types import to_arrow_schema

        assert isinstance(partition, FileSlice)
        target = to_arrow_schema(self._schema, timezone="UTC")
        held: list[pa.Table] = []
        log = self._open_log()
        for path, number, shares in partition.files:
            for rows in log.read_groups(path, self._columns, self._event_types, self._type_column, (number, shares)):
                held.append(rows)
                if sum(map(len, held)) < _ROWS_OF_ONE_ARROW_BATCH:
                    continue
                held = self._reduce(held)
                # What is left of distinct rows may meet its like in the next files; half a batch at most waits.
                if not self._distinct_within or len(held[0]) > _ROWS_OF_ONE_ARROW_BATCH // 2:
                    yield from _with_frontier(held, partition.frontier, target)
                    held = []
        held = self._reduce(held)
        if partition.has_mark:
            counted = {STANDS_FOR: pa.array([0], pa.int64())} if self._distinct_within else {}
            held.append(pa.table({name: pa.nulls(1) for name in self._columns} | counted))
        yield from _with_frontier(held, partition.frontier, target)

    def _reduce(self, tables: list[pa.Table]) -> list[pa.Table]:
        """The tables, and where the stream counts distinct values one of their distinct rows."""
        import pyarrow as pa

        if not self._distinct_within or not tables:
            return tables
        rows = pa.concat_tables(tables, promote_options="permissive")
        return [keep_distinct(rows, self._time_column, self._distinct_within)]

    def _open_log(self) -> CommitLog:
        if self._log is None:
            self._log = CommitLog(self._uri, self._time_column, self._storage_options)
        return self._log

    def _plan_state(self, log: CommitLog, start: Offset, limit: BatchLimit) -> Offset:
        files, frontier = log.read_table(start["version"])
        taken, rows, size = start["files"], 0, 0
        while taken < len(files):
            rows, size = rows + files[taken].rows, size + files[taken].size_bytes
            if taken > start["files"] and limit.is_passed(rows, size):
                break
            taken += 1
        if taken == len(files):
            frontier = later(frontier, start["frontier"])
            return {"version": start["version"], "files": WHOLE_VERSION, "frontier": frontier}
        return {"version": start["version"], "files": taken, "frontier": files[taken].from_micros}

    def _check_next_commit(self, log: CommitLog, version: int) -> None:
        """Checks now and then that the log still holds the next commit, where there is none to be seen.

        Upkeep waits for this query; another program's clean-up does not, and would look like a silent shop.
        """
        now = time.monotonic()
        if self._checked_at is not None and now - self._checked_at < _SECONDS_BETWEEN_CHECKS:
            return
        self._checked_at = now
        # Looked for once more: it may have come between the two looks.
        if log.read(version + 1) is None and log.newest_version() > version and log.read(version + 1) is None:
            raise _lost(log, version + 1)


def has_read(offset: Offset, version: int) -> bool:
    """Whether a query that has come to this offset needs nothing of that version and all before it."""
    reached: int = offset["version"]
    return reached > version or (reached == version and offset["files"] == WHOLE_VERSION)


def share_out(files: Sequence[AppendedFile], max_tasks: int) -> list[list[FileShare]]:
    """The files of each task: of about equal rows, at most `max_tasks`; one where nothing is to be read.

    A file that is larger than a task's share is read by several, each some of its row groups. The largest files are
    handed out first, each to the task that has the fewest rows.
    """
    total = sum(file.rows for file in files)
    count = max(1, min(max_tasks, math.ceil(total / _ROWS_OF_ONE_TASK)))
    # A file of another writer's may not say how many rows it has: it counts as none, and is read.
    parts = [
        (file.rows / shares, (file.path, number, shares))
        for file in files
        for shares in [max(1, math.ceil(file.rows * count / max(total, 1)))]
        for number in range(shares)
    ]
    tasks: list[list[FileShare]] = [[] for _ in range(count)]
    heap = [(0.0, number) for number in range(count)]
    for rows, share in sorted(parts, key=lambda part: -part[0]):
        taken, number = heapq.heappop(heap)
        tasks[number].append(share)
        heapq.heappush(heap, (taken + rows, number))
    return tasks


def plan_commits(log: CommitLog, start: Offset, limit: BatchLimit, last_version: int | None = None) -> Offset:
    """The offset after as many whole commits up to `last_version` as one batch reads; the first with rows always."""
    version, frontier, rows, size = start["version"], start["frontier"], 0, 0
    has_files = False
    while (last_version is None or version < last_version) and (commit := log.read(version + 1)) is not None:
        if has_files and limit.is_passed(rows + commit.rows, size + commit.size_bytes):
            break
        has_files = has_files or bool(commit.files)
        rows, size = rows + commit.rows, size + commit.size_bytes
        version = commit.version
        frontier = later(frontier, commit.frontier)
    return {"version": version, "files": WHOLE_VERSION, "frontier": frontier}


def find_files(log: CommitLog, start: Offset, end: Offset) -> list[AppendedFile]:
    """The files between two offsets of one query. Raises `LostCommitsError`."""
    in_state = start["version"] < 0 or start["files"] != WHOLE_VERSION
    if in_state:
        files, _ = log.read_table(end["version"])
        first = 0 if start["version"] < 0 else start["files"]
        return files[first:] if end["files"] == WHOLE_VERSION else files[first : end["files"]]
    found: list[AppendedFile] = []
    for version in range(start["version"] + 1, end["version"] + 1):
        commit = log.read(version)
        if commit is None:
            raise _lost(log, version)
        found += commit.files
    return found


def _lost(log: CommitLog, version: int) -> LostCommitsError:
    return LostCommitsError(
        f"The log of {log.uri} no longer holds version {version}, which the query has not read. Have its table "
        "computed again from the rows that are there: headrace recompute, with the stream's name."
    )


def _with_frontier(tables: list[pa.Table], frontier: int | None, target: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if not tables:
        return
    rows = pa.concat_tables(tables, promote_options="permissive")
    times = pa.repeat(pa.scalar(frontier, pa.int64()), len(rows)).cast(pa.timestamp("us", tz="UTC"))
    rows = rows.append_column(FRONTIER_COLUMN, times).select(target.names).cast(target).combine_chunks()
    yield from rows.to_batches()
