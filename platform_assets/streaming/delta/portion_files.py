"""Writes rows of a Delta table into its folder portion by portion, however large they are, in whatever process.

delta-rs gathers thousands of rows before it writes any (`findings/delta-rs-long-texts.sh`): of sixty records of 16 MB
it holds all, several times; and it takes 60 MiB in each process that loads it. Here a portion is in its file soon after
it has come, and the log entries of the files are the driver's to commit. Files that are never committed belong to
nobody: upkeep removes them.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from platform_assets.folders import make_folder_of, open_folder

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Delta's word for a null in a path.
_NULL = "__HIVE_DEFAULT_PARTITION__"
# As delta-rs: files of this size are read well, and few.
_FILE_BYTES = 100 * 1024 * 1024
# A row group is kept in memory until it is written; smaller ones cost readers a look into each.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 16 * 1024 * 1024
# Texts may be megabytes, and bounds lie in the log; codes and names are short.
_BOUND_CHARS = 64


@dataclass(frozen=True)
class TableFolder:
    """A table's folder, and what its rows are like. May be sent to another process.

    `schema`: the columns that the table has; of those beyond the first `own_columns` this code knows nothing, and
    leaves them null. `counted`: of which columns a file's log entry has statistics. `storage_options` may hold secrets.
    """

    uri: str
    schema: pa.Schema
    own_columns: int
    partition_by: tuple[str, ...] = ()
    counted: frozenset[str] = frozenset()
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # An open file system stays behind.
        names = ("uri", "schema", "own_columns", "partition_by", "counted", "storage_options")
        return TableFolder, tuple(getattr(self, name) for name in names)

    @cached_property
    def files(self) -> FileSystem:
        """The folder as Arrow's file system."""
        return open_folder(self.uri, self.storage_options)

    def conform(self, rows: pa.Table) -> pa.Table:
        """The rows with the table's columns, in its order and types."""
        for name in self.schema.names[self.own_columns :]:
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.nulls(len(rows)))
        return rows.select(self.schema.names).cast(self.schema)


@dataclass(frozen=True)
class NewFile:
    """A file in a table's folder that no commit names yet: what its log entry will say.

    `partition` are the values that its rows share, as texts; `statistics` is JSON.
    """

    path: str
    size_bytes: int
    partition: Mapping[str, str | None]
    modified_millis: int
    rows: int
    statistics: str


class PortionWriter:
    """Writes portions of rows, each into the file of its partition. Raises what the file system raises.

    A file holds rows of one partition. What was begun stays when an error ends it.
    """

    def __init__(self, where: TableFolder) -> None:
        self._where = where
        self._files: dict[tuple[Any, ...], FileWriter] = {}
        self._done: list[NewFile] = []

    def write(self, portion: pa.Table) -> None:
        """Writes some rows: the table's columns, in any order."""
        if not len(portion):
            return
        by = self._where.partition_by
        for values, rows in _split(self._where.conform(portion), by):
            if values not in self._files:
                self._files[values] = FileWriter(self._where, dict(zip(by, values, strict=True)), rows.schema)
            self._files[values].write(rows)
            if self._files[values].bytes_written >= _FILE_BYTES:
                self._done.append(self._files.pop(values).close())

    def close(self) -> list[NewFile]:
        """Ends the files and says what is in them."""
        return [*self._done, *(file.close() for file in self._files.values())]


class FileWriter:
    """One Parquet file that is being written, and what its log entry will say."""

    def __init__(self, where: TableFolder, partition: Mapping[str, Any], schema: pa.Schema) -> None:
        self._folder = where.files
        self._partition = {name: None if value is None else str(value) for name, value in partition.items()}
        parts = [f"{name}={_NULL if text is None else quote(text, safe='')}" for name, text in self._partition.items()]
        self._path = "/".join([*parts, f"part-{uuid.uuid4()}.zstd.parquet"])
        make_folder_of(self._folder, self._path)
        self._stream = self._folder.open_output_stream(self._path)
        self._writer = pq.ParquetWriter(
            self._stream, schema, compression="zstd",
            # As in the log: of all columns they cost a fifth of the writing, and no reader leaves rows out by them.
            write_statistics=[name for name in schema.names if name in where.counted],
        )  # fmt: skip
        self._rows = 0
        self._waiting: list[pa.Table] = []
        self._nulls = dict.fromkeys((name for name in schema.names if name in where.counted), 0)
        self._bounds: dict[str, tuple[Any, Any]] = {}
        self._unbounded: set[str] = set()

    @property
    def bytes_written(self) -> int:
        """How large the file is so far."""
        return int(self._stream.tell())

    def write(self, rows: pa.Table) -> None:
        """Adds rows."""
        self._waiting.append(rows)
        self._rows += len(rows)
        for name in self._nulls:
            self._count(name, rows[name])
        if sum(map(len, self._waiting)) >= _GROUP_ROWS or sum(part.nbytes for part in self._waiting) >= _GROUP_BYTES:
            self._write_group()

    def _count(self, name: str, column: pa.ChunkedArray) -> None:
        self._nulls[name] += column.null_count
        if column.null_count == len(column) or name in self._unbounded:
            return
        if not _has_bounds(column):
            self._unbounded.add(name)
            self._bounds.pop(name, None)
            return
        found = pc.min_max(column).as_py()
        low, high = self._bounds.get(name, (found["min"], found["max"]))
        self._bounds[name] = (min(low, found["min"]), max(high, found["max"]))

    def close(self) -> NewFile:
        """Ends the file."""
        self._write_group()
        self._writer.close()
        self._stream.close()
        statistics = {
            "numRecords": self._rows,
            "minValues": {name: _as_json(low) for name, (low, _) in self._bounds.items()},
            "maxValues": {name: _as_json(high) for name, (_, high) in self._bounds.items()},
            "nullCount": self._nulls,
        }
        size = self._folder.get_file_info(self._path).size
        now = time.time_ns() // 1_000_000
        return NewFile(self._path, size, self._partition, now, self._rows, json.dumps(statistics))

    def _write_group(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            self._writer.write_table(rows, row_group_size=len(rows))
            self._waiting = []


def _split(portion: pa.Table, partition_by: tuple[str, ...]) -> Iterable[tuple[tuple[Any, ...], pa.Table]]:
    """The rows of each partition, without the columns that it stands for."""
    if not partition_by:
        yield (), portion
        return
    found = portion.group_by(list(partition_by), use_threads=False).aggregate([]).to_pylist()
    for row in found:
        is_own = reduce(pc.and_, (_is(portion[name], value) for name, value in row.items()))
        own = portion if len(found) == 1 else portion.filter(is_own)
        yield tuple(row[name] for name in partition_by), own.drop_columns(list(partition_by))


def _is(column: pa.ChunkedArray, value: Any) -> pa.ChunkedArray:
    if isinstance(value, float) and math.isnan(value):
        return pc.is_nan(column).fill_null(False)
    return column.is_null() if value is None else pc.equal(column, pa.scalar(value, column.type)).fill_null(False)


def _has_bounds(column: pa.ChunkedArray) -> bool:
    """Whether files are left out by this column. A number that is none has no order."""
    of_type = column.type
    if pa.types.is_string(of_type):
        return bool(pc.max(pc.utf8_length(column)).as_py() <= _BOUND_CHARS)
    return bool(pa.types.is_integer(of_type) or pa.types.is_date(of_type) or pa.types.is_timestamp(of_type))


def _as_json(value: int | str | date | datetime) -> int | str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value.isoformat() if isinstance(value, date) else value
