"""Finds which rows differ between the files that a step has added and those that it has removed, by DuckDB.

An upsert or an erasure rewrites whole files for a few rows. What stands in both is no change, and is not sent. Memory
is bounded: DuckDB keeps the rest on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.sinks.file_rows import read_rows
from platform_assets.sinks.table_log import DataFile, LogGapError, Step
from platform_assets.sinks.target import quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    from platform_assets.tables.spec import TableSpec
    from resources.duckdb import DuckDBResource

_PORTION_ROWS = 20_000


@dataclass(frozen=True)
class Told:
    """Rows that are no news: they meet `condition`, as one of the rows before did with the same values in `columns`."""

    columns: tuple[str, ...]
    condition: str


@dataclass(frozen=True)
class ChangedRows:
    """Keys of rows that go, and rows that come; a row that changes is in both. Each is read once, and to its end.

    `ended`: the keys of `gone` of which no row comes, nor has stayed in a file that was written anew.
    """

    gone: Iterator[pa.RecordBatch]
    come: Iterator[pa.RecordBatch]
    ended: Iterator[pa.RecordBatch]


@contextmanager
def find_changed_rows(
    engine: DuckDBResource,
    files: FileSystem,
    step: Step,
    spec: TableSpec,
    schema: pa.Schema,
    told: Told | None = None,
) -> Iterator[ChangedRows]:
    """Yields the changes of a step, for the length of the block; rows that are `told` do not come.

    Raises `LogGapError` where a file is gone.
    """
    if not step.removed:
        yield ChangedRows(iter(()), read_rows(files, step.added, schema), iter(()))
        return
    key = ", ".join(map(quote, spec.key))
    with engine.connected() as connection:
        _load(connection, "added", files, step.added, schema)
        _load(connection, "removed", files, step.removed, schema)
        gone = f"SELECT {key} FROM (FROM removed EXCEPT ALL FROM added)"
        ended = f"SELECT {key} FROM removed EXCEPT SELECT {key} FROM added"
        come = "FROM added EXCEPT ALL FROM removed"
        if told is not None:
            come = _leave_out(come, told)
        key_schema = schema.empty_table().select([*spec.key]).schema
        yield ChangedRows(
            _stream(connection, gone, key_schema),
            _stream(connection, come, schema),
            _stream(connection, ended, key_schema),
        )


def _leave_out(come: str, told: Told) -> str:
    """The query without what is told. A condition that cannot be computed over a row is not met by it."""
    meets = f"coalesce(TRY(({told.condition})::BOOLEAN), false)"
    same = " AND ".join(f"was.{quote(name)} IS NOT DISTINCT FROM now.{quote(name)}" for name in told.columns)
    return f"""
        SELECT now.* EXCLUDE "meets it" FROM (SELECT *, {meets} AS "meets it" FROM ({come})) AS now
        WHERE NOT "meets it" OR NOT EXISTS (SELECT 1 FROM (FROM removed WHERE {meets}) AS was WHERE {same})"""


def _load(
    connection: duckdb.DuckDBPyConnection, name: str, files: FileSystem, data: tuple[DataFile, ...], schema: pa.Schema
) -> None:
    """Makes a table of the files' rows. What DuckDB says of an error of the reader is not the error."""
    import duckdb
    import pyarrow as pa

    gaps: list[LogGapError] = []

    def read() -> Iterator[pa.RecordBatch]:
        try:
            yield from read_rows(files, data, schema)
        except LogGapError as error:
            gaps.append(error)
            raise

    connection.register("source", pa.RecordBatchReader.from_batches(schema, read()))
    try:
        connection.execute(f"CREATE TEMP TABLE {name} AS FROM source")
    except duckdb.Error:
        if gaps:
            raise gaps[0] from None
        raise
    connection.unregister("source")


def _stream(connection: duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a query, computed when the first one is asked for."""
    import pyarrow as pa

    for batch in connection.sql(sql).to_arrow_reader(_PORTION_ROWS):
        yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
