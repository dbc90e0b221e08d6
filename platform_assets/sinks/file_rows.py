"""Reads rows of a table's Parquet files, some at a time, with the columns and types of its spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from platform_assets.sinks.table_log import DataFile, LogGapError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

# What one portion takes in memory, three times or so: as it is read, as text, and as the driver sends it.
_PORTION_BYTES = 16 * 1024 * 1024
_PORTION_ROWS = 20_000


def read_rows(files: FileSystem, data: Iterable[DataFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of these files, with the columns of `schema`; a column that a file does not know is null.

    Raises `LogGapError` where a file is gone.
    """
    for file in data:
        try:
            yield from _read_file(files, file, schema)
        except FileNotFoundError:
            raise LogGapError(f"the file {file.path} was removed before it was read") from None


def has_values(files: FileSystem, data: Iterable[DataFile], column: str) -> bool:
    """Whether some row of these files may have a value in this column, by the files' own counts of nulls."""
    import pyarrow.parquet as pq

    for file in data:
        if column in file.partition:
            return True
        try:
            footer = pq.read_metadata(file.path, filesystem=files)
        except FileNotFoundError:
            raise LogGapError(f"the file {file.path} was removed before it was read") from None
        if any(
            path.split(".")[0] == column for path in (footer.schema.column(n).path for n in range(footer.num_columns))
        ):
            for number in range(footer.num_row_groups):
                group = footer.row_group(number)
                parts = [group.column(n) for n in range(group.num_columns)]
                for part in (part for part in parts if part.path_in_schema.split(".")[0] == column):
                    counted = part.statistics.null_count if part.statistics is not None else None
                    if counted is None or counted < part.num_values:
                        return True
    return False


def _read_file(files: FileSystem, file: DataFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path, filesystem=files, pre_buffer=True, coerce_int96_timestamp_unit="us") as source:
        known = [name for name in schema.names if name in source.schema_arrow.names and name not in file.partition]
        rows = source.metadata.num_rows
        unpacked = sum(source.metadata.row_group(n).total_byte_size for n in range(source.metadata.num_row_groups))
        at_a_time = max(1, min(_PORTION_ROWS, _PORTION_BYTES * rows // max(1, unpacked)))
        for batch in source.iter_batches(at_a_time, columns=known):
            columns = {name: batch[name] for name in known}
            columns |= {
                name: pa.repeat(_parse(value, schema.field(name).type), len(batch))
                for name, value in file.partition.items()
                if name in schema.names
            }
            filled = {
                field.name: columns[field.name] if field.name in columns else pa.nulls(len(batch), field.type)
                for field in schema
            }
            part = pa.table(filled).cast(schema)
            yield from part.to_batches()


def _parse(value: str | None, kind: pa.DataType) -> pa.Scalar:
    """A partition's value as the log has it: a text, of which the empty one means null."""
    import pyarrow as pa

    return pa.scalar(value or None, pa.string()).cast(kind)
