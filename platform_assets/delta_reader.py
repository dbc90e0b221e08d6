"""Delta tables whose files Arrow reads by itself. Everything that opens a table or its files opens them here.

Arrow and DuckDB leave out files by what the log says of them. delta-rs's own dataset promises more than the log says:
of a column without bounds (one that was added later, one with an infinity, the booleans that Spark has written) that
each value is at least null, which none is. A filter that believes it loses rows without a word
(`findings/delta-rs-dataset-filter-loses-rows.sh`). Here only what is sure is promised.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable, Schema

from platform_assets.folders import Folder, open_folder

if TYPE_CHECKING:
    import duckdb
    from pyarrow.dataset import Dataset, Expression


# Up to here every feature that a table may need of its reader is known to Arrow.
_PLAIN_READER_VERSION = 2

# Of the ledgers' columns a megabyte, of which a computation makes several copies.
PORTION_ROWS = 4 * 1024

# Delta's log has times in milliseconds, rounded down: the upper bound is meant with all of its last one.
_ROUNDING = timedelta(milliseconds=1)


# One request after the other of an object store would take a second for the commits of a minute.
_LOG_READERS = 8
# Without a limit the log may be long: no more than this is read past its end, or held as requests.
_LOG_PORTION = 64


class ArrowReadTable(DeltaTable):
    """A `DeltaTable` that Arrow reads without losing rows to a filter, and local files of it without Python.

    delta-rs hands Arrow a file system that is written in Python. Arrow's threads close such files a moment after the
    last row has been handed over; a process that ends within that moment is aborted ("terminate called without an
    active exception", https://github.com/apache/arrow/issues/34314), its work done but its exit code 134. Only object
    stores other than S3 are still read that way.
    """

    def to_pyarrow_dataset(self, *args: Any, **kwargs: Any) -> Dataset:
        """The rows of the table's version, with its columns; `to_pyarrow_table` reads them, and takes `filters` too.

        No text can be filtered: see `register_pinned`. delta-rs's options are not offered. Raises deltalake's
        `DeltaProtocolError` for a table whose files do not hold its rows as they are (deletion vectors).
        """
        if args or any(value is not None for value in kwargs.values()):
            raise TypeError("Headrace reads a table in one way: to_pyarrow_dataset() takes no options.")
        if self.protocol().min_reader_version > _PLAIN_READER_VERSION:
            super().to_pyarrow_dataset()
        actions = pa.table(self.get_add_actions(flatten=True)).to_pylist()
        return _build_dataset(self, pa.schema(self.schema().to_arrow()), actions)

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        """What the log says of the commits up to the version at which the table stands, newest first.

        Of `limit` versions at most, and of those before one that the log no longer holds none. Each has its `version`.
        delta-rs's own has commits in it that came after the table was opened, and counts the versions down from the
        table's one: each is then another commit's (`findings/delta-rs-history-of-an-opened-table.sh`).
        """
        read = partial(_read_commit, Folder(self.table_uri, self._storage_options or {}))
        end = -1 if limit is None else max(-1, self.version() - limit)
        commits: list[dict[str, Any]] = []
        with ThreadPoolExecutor(_LOG_READERS) as pool:
            for newest in range(self.version(), end, -_LOG_PORTION):
                for commit in pool.map(read, range(newest, max(newest - _LOG_PORTION, end), -1)):
                    if commit is None:
                        return commits
                    commits.append(commit)
        return commits


def _read_commit(folder: Folder, version: int) -> dict[str, Any] | None:
    content = folder.read_file(f"_delta_log/{version:020d}.json")
    if content is None:
        return None
    for line in content.split(b"\n"):
        # A commit of many files is long: only what may be its facts is parsed.
        if b'"commitInfo"' in line and (facts := json.loads(line).get("commitInfo")) is not None:
            return {**facts, "version": version}
    return {"version": version}


def register_pinned(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: DeltaTable,
    bounds: tuple[str, date, date] | None = None,
    columns: pa.Schema | None = None,
) -> None:
    """Names in this connection the table's rows at the version at which it stands, with the columns that it has today.

    One that was added later is null: current code asks an older version for it. So is one of `columns` that the
    table does not have at all: it gets those of newer code when that writes it.

    `bounds` are a column with its first and last value: files whose log entry says that they have no such row are left
    out. Others may hold rows outside; the caller filters.

    DuckDB reads local files by itself: several times as fast as through Arrow, and Arrow cannot compare text in files
    that delta-rs has rewritten (`findings/pyarrow-filter-on-rewritten-text.sh`).
    """
    schema = _with_columns(pa.schema(read_newest_schema(table).to_arrow()), columns)
    actions = [
        action
        for action in pa.table(table.get_add_actions(flatten=True)).to_pylist()
        if bounds is None or _may_hold(action, *bounds)
    ]
    _register(connection, name, table, schema, actions)


def _with_columns(schema: pa.Schema, columns: pa.Schema | None) -> pa.Schema:
    for column in columns or ():
        schema = schema if column.name in schema.names else schema.append(column)
    return schema


def as_timestamptz(moment: datetime) -> str:
    """A moment in DuckDB's SQL."""
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


def register_files(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: DeltaTable,
    actions: Sequence[Mapping[str, Any]],
    columns: pa.Schema | None = None,
) -> None:
    """Registers the files that these entries of the table's log name (flattened add actions). See `register_pinned`."""
    schema = pa.schema(table.schema().to_arrow())
    _register(connection, name, table, _with_columns(schema, columns), actions)


def _register(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: DeltaTable,
    schema: pa.Schema,
    actions: Sequence[Mapping[str, Any]],
) -> None:
    # A file may lack a column that was added later.
    connection.register(f"{name}_columns", schema.empty_table())
    source = f"SELECT * FROM {name}_columns"
    if actions and (files := _read_local_files(table, schema, actions)) is not None:
        source += f" UNION ALL BY NAME SELECT * FROM {files}"
    elif actions:
        # DuckDB hands filters on to Arrow, but none of this kind of text, which Arrow could not compare.
        known = _partitions_of(actions)
        viewed = [f.with_type(pa.string_view()) if f.type == pa.string() and f.name not in known else f for f in schema]
        connection.register(f"{name}_dataset", _build_dataset(table, pa.schema(viewed), actions))
        source = f"SELECT * FROM {name}_dataset"
    # A view in every case: the name may stand for other rows already, and DuckDB registers nothing over a view.
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {source}")


def read_newest_schema(table: DeltaTable) -> Schema:
    """The table's current schema, whatever the version at which `table` stands; columns are only ever added."""
    return DeltaTable(table.table_uri, storage_options=table._storage_options).schema()


def select_local_rows(connection: duckdb.DuckDBPyConnection, table: DeltaTable) -> str | None:
    """A SELECT of the table's rows at the version at which it stands, which any DuckDB of this machine can run.

    `connection` says how DuckDB names the columns' types. None for a table whose files DuckDB cannot read by itself: in
    an object store, or with deletion vectors.
    """
    schema = pa.schema(read_newest_schema(table).to_arrow())
    connection.register("headrace_columns", schema.empty_table())
    described = connection.sql("DESCRIBE headrace_columns").fetchall()
    connection.unregister("headrace_columns")
    columns = ", ".join(f"NULL::{kind} AS {_quoted(name)}" for name, kind, *_ in described)
    source = f"SELECT {columns} WHERE false"
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    files = _read_local_files(table, schema, actions) if actions else ""
    if files is None or table.protocol().min_reader_version > _PLAIN_READER_VERSION:
        return None
    return f"{source} UNION ALL BY NAME SELECT * FROM {files}" if files else source


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_local_files(table: DeltaTable, schema: pa.Schema, actions: Sequence[Mapping[str, Any]]) -> str | None:
    """The call by which DuckDB reads them; None for what it would read otherwise than it is meant."""
    place = urlsplit(table.table_uri)
    root = unquote(place.path).rstrip("/")
    paths = [f"{root}/{unquote(action['path'])}" for action in actions]
    partitions = _partitions_of(actions)
    # Only day partitions: for others it would have to guess how their values are spelled in a path.
    by_days = all(schema.field(column).type == pa.date32() for column in partitions)
    if place.scheme != "file" or not by_days or any(character in path for path in paths for character in "*?["):
        return None
    files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    days = ", ".join(f"{column}: DATE" for column in partitions)
    hive = f"hive_partitioning = true, hive_types = {{{days}}}" if days else "hive_partitioning = false"
    return f"read_parquet([{files}], union_by_name = true, {hive})"


def _build_dataset(table: DeltaTable, schema: pa.Schema, actions: Sequence[Mapping[str, Any]]) -> Dataset:
    import pyarrow.dataset as ds

    sizes = {unquote(action["path"]): action["size_bytes"] for action in actions}
    folder = open_folder(table.table_uri, table._storage_options, sizes)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
    fragments = [
        parquet.make_fragment(path, folder, _build_promise(action, schema), file_size=sizes[path])
        for action in actions
        for path in (unquote(action["path"]),)
    ]
    return ds.FileSystemDataset(fragments, schema, parquet, folder)


def _partitions_of(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name.removeprefix("partition.") for name in actions[0] if name.startswith("partition.")]


def _may_hold(action: Mapping[str, Any], column: str, first: date, last: date) -> bool:
    if f"partition.{column}" in action:
        value = action[f"partition.{column}"]
        return value is not None and first <= value <= last
    bounds = _read_bounds(action, column)
    return bounds is None or (bounds[0] <= last and bounds[1] >= first)


def _read_bounds(action: Mapping[str, Any], column: str) -> tuple[Any, Any] | None:
    """Between what a file's values of this column surely lie, those that are not null; None: the log does not say."""
    low, high = action.get(f"min.{column}"), action.get(f"max.{column}")
    if low is None or high is None:
        return None
    if isinstance(high, datetime):
        high += min(_ROUNDING, datetime.max.replace(tzinfo=high.tzinfo) - high)
    return low, high


def _build_promise(action: Mapping[str, Any], schema: pa.Schema) -> Expression:
    """What holds for all rows of a file: its partition, which it does not hold itself, and bounds of some columns.

    Of whole numbers, dates and times: the log shortens texts, and leaves NaN out of the bounds of doubles.
    """
    import pyarrow.dataset as ds

    promise = ds.scalar(value=True)
    for column in schema:
        field = ds.field(column.name)
        if (name := f"partition.{column.name}") in action:
            value = action[name]
            promise &= field.is_null() if value is None else field == value
        elif _has_exact_bounds(column.type) and (bounds := _read_bounds(action, column.name)) is not None:
            low, high = (pa.scalar(bound, column.type) for bound in bounds)
            if action.get(f"null_count.{column.name}") == 0:
                promise &= (field >= low) & (field <= high)
            else:  # each bound by itself, else Arrow leaves no file out by them
                promise &= ((field >= low) | field.is_null()) & ((field <= high) | field.is_null())
    return promise


def _has_exact_bounds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def read_portions(
    dataset: Dataset, columns: Sequence[str], row_filter: Expression | None = None, rows: int = PORTION_ROWS
) -> Iterator[pa.Table]:
    """These columns of a dataset's rows, some rows at a time: that is all that memory holds of them.

    `row_filter` speaks of these columns, and of no text. Arrow's own `to_batches` reads ahead of a slow caller, up to a
    gigabyte, whatever it is told of batches and files.
    """
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    schema = pa.schema([dataset.schema.field(name) for name in columns])
    for fragment in dataset.get_fragments(row_filter):
        chosen = fragment if row_filter is None else fragment.subset(row_filter, schema=dataset.schema)
        groups = [group.id for group in chosen.row_groups]
        constants = ds.get_partition_keys(fragment.partition_expression)
        with fragment.open() as source, pq.ParquetFile(source, pre_buffer=True) as file:
            known = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(rows, groups, known):
                missing = {
                    field.name: pa.repeat(pa.scalar(constants.get(field.name), field.type), len(batch))
                    for field in schema
                    if field.name not in known
                }
                found = {name: missing[name] if name in missing else batch[name] for name in columns}
                part = pa.table(found).cast(schema)
                yield part if row_filter is None else part.filter(row_filter)
