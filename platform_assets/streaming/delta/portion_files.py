"""Writes rows of a Delta table into its folder portion by portion, however large they are.

delta-rs gathers thousands of rows before it writes any (`findings/delta-rs-long-texts.sh`): of sixty records of 16 MB
it holds all, several times. Here a portion is in its file before the next one is asked for, and the log entries of the
files are delta-rs's to commit. Files that are never committed belong to nobody, and go with a full VACUUM.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Delta's word for a null in a path.
_NULL = "__HIVE_DEFAULT_PARTITION__"
# As delta-rs: files of this size are read well, and few.
_FILE_BYTES = 100 * 1024 * 1024


def write_files(
    folder: FileSystem, partition_by: list[str], counted: Collection[str], portions: Iterable[pa.Table]
) -> list[AddAction]:
    """Writes the rows and returns the log entries of the files, which nobody has committed yet.

    `folder` is the table's, the portions have its columns; statistics are of those that are `counted`. A file holds
    rows of one partition, and a row group for each portion. Raises what the file system raises; begun files stay.
    """
    files: dict[tuple[Any, ...], _File] = {}
    done: list[AddAction] = []
    for portion in filter(len, portions):
        for values, rows in _split(portion, partition_by):
            if values not in files:
                files[values] = _File(folder, dict(zip(partition_by, values, strict=True)), counted, rows.schema)
            files[values].write(rows)
            if files[values].bytes_written >= _FILE_BYTES:
                done.append(files.pop(values).close())
    return [*done, *(file.close() for file in files.values())]


class _File:
    """One Parquet file that is being written, and what its log entry will say."""

    def __init__(
        self, folder: FileSystem, partition: Mapping[str, Any], counted: Collection[str], schema: pa.Schema
    ) -> None:
        self._folder = folder
        self._partition = {name: None if value is None else str(value) for name, value in partition.items()}
        parts = [f"{name}={_NULL if text is None else quote(text)}" for name, text in self._partition.items()]
        self._path = "/".join([*parts, f"part-{uuid.uuid4()}.zstd.parquet"])
        if parts:
            folder.create_dir("/".join(parts), recursive=True)
        self._stream = folder.open_output_stream(self._path)
        self._writer = pq.ParquetWriter(self._stream, schema, compression="zstd")
        self._rows = 0
        self._nulls = dict.fromkeys((name for name in schema.names if name in counted), 0)
        self._bounds: dict[str, tuple[Any, Any]] = {}

    @property
    def bytes_written(self) -> int:
        """How large the file is so far."""
        return int(self._stream.tell())

    def write(self, rows: pa.Table) -> None:
        """Writes them as a row group."""
        self._writer.write_table(rows, row_group_size=len(rows))
        self._rows += len(rows)
        for name in self._nulls:
            column = rows[name]
            self._nulls[name] += column.null_count
            if column.null_count < len(column) and _has_bounds(column.type):
                found = pc.min_max(column).as_py()
                low, high = self._bounds.get(name, (found["min"], found["max"]))
                self._bounds[name] = (min(low, found["min"]), max(high, found["max"]))

    def close(self) -> AddAction:
        """Ends the file."""
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
        return AddAction(self._path, size, self._partition, now, True, json.dumps(statistics))


def _split(portion: pa.Table, partition_by: list[str]) -> Iterable[tuple[tuple[Any, ...], pa.Table]]:
    """The rows of each partition, without the columns that it stands for."""
    if not partition_by:
        yield (), portion
        return
    for row in portion.group_by(partition_by, use_threads=False).aggregate([]).to_pylist():
        is_own = reduce(pc.and_, (_is(portion[name], value) for name, value in row.items()))
        yield tuple(row[name] for name in partition_by), portion.filter(is_own).drop_columns(partition_by)


def _is(column: pa.ChunkedArray, value: Any) -> pa.ChunkedArray:
    return column.is_null() if value is None else pc.equal(column, pa.scalar(value, column.type)).fill_null(False)


def _has_bounds(of_type: pa.DataType) -> bool:
    """What files are left out by. Texts may be megabytes, and a number that is none has no order."""
    return bool(pa.types.is_integer(of_type) or pa.types.is_date(of_type) or pa.types.is_timestamp(of_type))


def _as_json(value: int | date | datetime) -> int | str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value.isoformat() if isinstance(value, date) else value
