"""Delta tables whose files Arrow reads by itself. Everything that opens a table or its files opens them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable, Schema

from platform_assets.folders import open_folder

if TYPE_CHECKING:
    import duckdb
    from pyarrow.dataset import Dataset, Expression


class ArrowReadTable(DeltaTable):
    """A `DeltaTable` that reads local files without Python.

    delta-rs hands Arrow a file system that is written in Python. Arrow's threads close such files a moment after the
    last row has been handed over; a process that ends within that moment is aborted ("terminate called without an
    active exception", https://github.com/apache/arrow/issues/34314), its work done but its exit code 134. Only an
    object store is still read that way.
    """

    def to_pyarrow_dataset(self, *args: Any, **kwargs: Any) -> Dataset:
        """As delta-rs has it; `filesystem` defaults to the table's own folder when that is local."""
        if urlsplit(self.table_uri).scheme == "file" and not args and kwargs.get("filesystem") is None:
            kwargs["filesystem"] = open_folder(self.table_uri)
        return super().to_pyarrow_dataset(*args, **kwargs)


def register_pinned(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: DeltaTable,
    bounds: tuple[str, date, date] | None = None,
    columns: pa.Schema | None = None,
) -> None:
    """Names in this connection the table's rows at the version at which it stands, with the columns that it has today.

    One that was added later is null: code of today asks a version of yesterday for it. So is one of `columns` that the
    table does not have at all: it gets those of newer code when that writes it.

    `bounds` are a column with its first and last value: files whose log entry says that they have no such row are left
    out. Others may hold rows outside; the caller filters. No other promise of the log is handed on: by delta-rs's own
    dataset a column without statistics (a boolean, one added later) is promised to be neither null nor anything else,
    and an engine that believes it loses the file's rows.

    DuckDB reads local files by itself: several times as fast as through Arrow, and Arrow cannot compare text in files
    that delta-rs has rewritten (`findings/pyarrow-filter-on-rewritten-text.sh`).
    """
    schema = pa.schema(read_newest_schema(table).to_arrow())
    for column in columns or ():
        schema = schema if column.name in schema.names else schema.append(column)
    actions = [
        action
        for action in pa.table(table.get_add_actions(flatten=True)).to_pylist()
        if bounds is None or _may_hold(action, *bounds)
    ]
    _register(connection, name, table, schema, actions)


def as_timestamptz(moment: datetime) -> str:
    """A moment in DuckDB's SQL."""
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


def register_files(
    connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, actions: Sequence[Mapping[str, Any]]
) -> None:
    """As `register_pinned`, of the files that these entries of the table's log (flattened add actions) name."""
    _register(connection, name, table, pa.schema(table.schema().to_arrow()), actions)


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
    if actions and (files := _find_local_files(table, schema, actions)) is not None:
        days = ", ".join(f"{column}: DATE" for column in _partitions_of(actions))
        hive = f"hive_partitioning = true, hive_types = {{{days}}}" if days else "hive_partitioning = false"
        source += f" UNION ALL BY NAME SELECT * FROM read_parquet([{files}], union_by_name = true, {hive})"
    elif actions:
        connection.register(f"{name}_dataset", _build_dataset(table, schema, actions))
        source = f"SELECT * FROM {name}_dataset"
    # A view in every case: the name may stand for other rows already, and DuckDB registers nothing over a view.
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {source}")


def read_newest_schema(table: DeltaTable) -> Schema:
    """The table's schema of today, whatever the version at which `table` stands; columns are only ever added."""
    return DeltaTable(table.table_uri, storage_options=table._storage_options).schema()


def _find_local_files(table: DeltaTable, schema: pa.Schema, actions: Sequence[Mapping[str, Any]]) -> str | None:
    """The paths as DuckDB takes them; None for what it would read otherwise than it is meant."""
    place = urlsplit(table.table_uri)
    root = unquote(place.path).rstrip("/")
    paths = [f"{root}/{unquote(action['path'])}" for action in actions]
    # By days only: of other partitions it would have to guess how their values are spelled in a path.
    by_days = all(schema.field(column).type == pa.date32() for column in _partitions_of(actions))
    if place.scheme != "file" or not by_days or any(character in path for path in paths for character in "*?["):
        return None
    return ", ".join("'" + path.replace("'", "''") + "'" for path in paths)


def _build_dataset(table: DeltaTable, schema: pa.Schema, actions: Sequence[Mapping[str, Any]]) -> Dataset:
    import pyarrow.dataset as ds

    folder, parquet = open_folder(table.table_uri, table._storage_options), ds.ParquetFileFormat()
    fragments = [parquet.make_fragment(unquote(action["path"]), folder, _partition(action)) for action in actions]
    return ds.FileSystemDataset(fragments, schema, parquet, folder)


def _partitions_of(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name.removeprefix("partition.") for name in actions[0] if name.startswith("partition.")]


def _may_hold(action: Mapping[str, Any], column: str, first: date, last: date) -> bool:
    if f"partition.{column}" in action:
        value = action[f"partition.{column}"]
        return value is not None and first <= value <= last
    low, high = action.get(f"min.{column}"), action.get(f"max.{column}")
    return low is None or high is None or (low <= last and high >= first)


def _partition(action: Mapping[str, Any]) -> Expression:
    """The values of the partition columns, which the files themselves do not hold."""
    import pyarrow.dataset as ds

    found = ds.scalar(value=True)
    for name, value in action.items():
        if name.startswith("partition."):
            field = ds.field(name.removeprefix("partition."))
            found = found & (field.is_null() if value is None else field == value)
    return found
