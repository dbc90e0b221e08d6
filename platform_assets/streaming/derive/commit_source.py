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

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from platform_assets.errors import LostCommitsError
from platform_assets.streaming.delta.commit_log import AppendedFile, CommitLog
from platform_assets.streaming.frontier import later

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType

FORMAT = "headrace_commits"
FRONTIER_COLUMN = "frontier"

# A backlog is read in batches of at most this: a batch's time bounds how long a stop waits, and its new state must fit
# with what is there. At five times 2,000 events/s a batch is half a minute of backlog.
MAX_ROWS_OF_ONE_BATCH = 300_000
# Below this a second task costs more than it wins: each has a Python worker's start and end.
_ROWS_OF_ONE_TASK = 20_000
# What a task holds in Arrow at once. A commit of a second is a file of a few thousand rows, and each Arrow batch that
# crosses to the JVM costs as much as a thousand rows.
_ROWS_OF_ONE_ARROW_BATCH = 50_000

Offset = dict[str, Any]

WHOLE_VERSION = -1
BEFORE_FIRST: Offset = {"version": -1, "files": WHOLE_VERSION, "frontier": None}


class CommitSource(DataSource):
    """`spark.readStream.format(FORMAT)`.

    Options: `uri`, `ddl` (columns to read), `time_column`, `event_types` (JSON list; empty: all) and the `type_column`
    that has them, `storage_options` (JSON).
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return FORMAT

    def schema(self) -> str:
        """The columns asked for, and `frontier`: a timestamp that is the same in all rows of a batch."""
        return f"{self.options['ddl']}, {FRONTIER_COLUMN} timestamp"

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 (Spark's name)
        """Called by Spark at each start of a query."""
        return CommitReader(dict(self.options), schema)


class FileSlice(InputPartition):
    """What one task reads: files, and whether it also brings the mark, a row with nothing but the frontier."""

    def __init__(self, files: list[str], frontier: int | None, has_mark: bool) -> None:
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
        self._columns = [name for name in schema.names if name != FRONTIER_COLUMN]
        self._schema = schema
        self._log: CommitLog | None = None
        self._checked = False
        self._last_version: int | None = None

    def initialOffset(self) -> Offset:  # noqa: N802
        """The offset before the table's first version."""
        return dict(BEFORE_FIRST)

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """See `MAX_ROWS_OF_ONE_BATCH`."""
        return ReadMaxRows(MAX_ROWS_OF_ONE_BATCH)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """A bounded query reads up to what is there now."""
        self._last_version = self._open_log().newest_version()

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:  # noqa: N802
        """The end of the next batch: whole commits, at least one. Raises `LostCommitsError`."""
        log = self._open_log()
        max_rows = None if isinstance(limit, ReadAllAvailable) else getattr(limit, "max_rows", MAX_ROWS_OF_ONE_BATCH)
        if start["version"] < 0:
            version = log.newest_version() if self._last_version is None else self._last_version
            return self._plan_state(log, {**start, "version": version, "files": 0}, max_rows)
        if start["files"] != WHOLE_VERSION:
            return self._plan_state(log, start, max_rows)
        self._check_next_commit(log, start["version"])
        return plan_commits(log, start, max_rows, self._last_version)

    def partitions(self, start: Offset, end: Offset) -> list[InputPartition]:
        """The files between two offsets, in tasks of about equal rows; the first one brings the mark."""
        if start == end:
            return []
        files = find_files(self._open_log(), start, end)
        tasks = 2 if sum(file.rows for file in files) > _ROWS_OF_ONE_TASK else 1
        shares = [[file.path for file in files[number::tasks]] for number in range(tasks)]
        return [FileSlice(paths, end["frontier"], number == 0) for number, paths in enumerate(shares)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of the files, as the table has them, and the frontier."""
        import pyarrow as pa
        from pyspark.sql.pandas.types import to_arrow_schema

        assert isinstance(partition, FileSlice)
        target = to_arrow_schema(self._schema, timezone="UTC")
        held: list[pa.Table] = []
        for path in partition.files:
            held.append(self._open_log().read_rows(path, self._columns, self._event_types, self._type_column))
            if sum(map(len, held)) >= _ROWS_OF_ONE_ARROW_BATCH:
                yield from _with_frontier(held, partition.frontier, target)
                held = []
        if partition.has_mark:
            held.append(pa.table({name: pa.nulls(1) for name in self._columns}))
        yield from _with_frontier(held, partition.frontier, target)

    def _open_log(self) -> CommitLog:
        if self._log is None:
            self._log = CommitLog(self._uri, self._time_column, self._storage_options)
        return self._log

    def _plan_state(self, log: CommitLog, start: Offset, max_rows: int | None) -> Offset:
        files, frontier = log.read_table(start["version"])
        taken, rows = start["files"], 0
        while taken < len(files) and (max_rows is None or not rows or rows + files[taken].rows <= max_rows):
            rows += files[taken].rows
            taken += 1
        if taken == len(files):
            frontier = later(frontier, start["frontier"])
            return {"version": start["version"], "files": WHOLE_VERSION, "frontier": frontier}
        return {"version": start["version"], "files": taken, "frontier": files[taken].from_micros}

    def _check_next_commit(self, log: CommitLog, version: int) -> None:
        """Checks once a start that the log still holds the next commit. Later, upkeep waits for this query."""
        if not self._checked and log.read(version + 1) is None and log.newest_version() > version:
            raise _lost(log, version + 1)
        self._checked = True


def has_read(offset: Offset, version: int) -> bool:
    """Whether a query that has come to this offset needs nothing of that version and all before it."""
    reached: int = offset["version"]
    return reached > version or (reached == version and offset["files"] == WHOLE_VERSION)


def plan_commits(log: CommitLog, start: Offset, max_rows: int | None, last_version: int | None = None) -> Offset:
    """The offset after as many whole commits up to `last_version` as `max_rows` allows; the first one always."""
    version, frontier, rows = start["version"], start["frontier"], 0
    while (last_version is None or version < last_version) and (commit := log.read(version + 1)) is not None:
        if rows and max_rows is not None and rows + commit.rows > max_rows:
            break
        rows += commit.rows
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
