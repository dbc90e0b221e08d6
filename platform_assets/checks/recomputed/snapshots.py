"""A version of a Delta table as Polars reads it, and the portions in which it is read.

`polars.scan_delta` does not find local files below a folder with a space or an umlaut in its name (it asks for the
percent-encoded path). Here the files come from the log, and so do the numbers of rows, from which the number of
portions follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import polars as pl

from platform_assets.delta_reader import read_newest_schema
from platform_assets.errors import TableSchemaError
from platform_assets.object_store import polars_options
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Another seed than that of Polars' own hash tables: they would be filled unevenly by what has equal remainders.
_SEED = 19

# A file without a row count in the log: as many rows as its bytes may hold, so that its portions come out too small.
_BYTES_OF_ONE_ROW = 4


@dataclass(frozen=True)
class Portion:
    """The rows whose key falls into one of `of` classes. All rows of one key are in one portion, in every table."""

    number: int
    of: int

    def holds(self, key: str) -> pl.Expr:
        """Whether the row's `key` is in the portion."""
        return pl.lit(True) if self.of == 1 else pl.col(key).hash(_SEED) % self.of == self.number


def split_rows(rows: int, rows_of_one_portion: int) -> list[Portion]:
    """The portions of a table with `rows` rows: at least one."""
    of = max(1, -(-rows // rows_of_one_portion))
    return [Portion(number, of) for number in range(of)]


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows, computed batch by batch.

    Without elimination of common parts: Polars keeps the rows of a scan that is used twice in memory, all of them.
    """
    return frame.collect(engine="streaming", optimizations=pl.QueryOptFlags(comm_subplan_elim=False))


def add_up(parts: Iterable[pl.LazyFrame], keys: list[str]) -> pl.DataFrame:
    """Sums by key what each portion counts (at least one); one part in memory besides the sums."""
    summed: pl.DataFrame | None = None
    for part in parts:
        rows = collect(part)
        summed = rows if summed is None else pl.concat([summed, rows]).group_by(keys).sum()
    assert summed is not None
    return summed


class Snapshot:
    """The table at the version at which `table` stands, with the columns that it has today and those of `spec`.

    Raises `TableSchemaError` for a table that needs more than Delta's first reader protocol (deletion vectors, column
    mapping): its files do not hold its rows as they are.
    """

    def __init__(self, table: DeltaTable, spec: TableSpec | None = None) -> None:
        if table.protocol().min_reader_version > 1:
            raise TableSchemaError(
                f"{table.table_uri} needs a newer reader protocol than 1, and would be read wrongly. See its check "
                "schema_contract."
            )
        uri = table.table_uri
        self._root = unquote(urlsplit(uri).path) if uri.startswith("file:") else f"{uri.rstrip('/')}/"
        self._options = polars_options(getattr(table, "_storage_options", None) or {}) or None
        promised = pl.Schema() if spec is None else pl.Schema(build_arrow_schema(spec))
        self._schema = pl.Schema(promised | pl.Schema(read_newest_schema(table)))
        self._partition_columns = table.metadata().partition_columns
        self._files = pl.DataFrame(table.get_add_actions(flatten=True))

    def of_day(self, day: date) -> pl.LazyFrame:
        """The rows of one day, where the table is partitioned by a day."""
        (column,) = self._partition_columns
        return self._scan(self._files_of(day)).with_columns(pl.lit(day).alias(column))

    def all_rows(self) -> pl.LazyFrame:
        """All rows, without the partition column."""
        return self._scan(self._files)

    def between(self, column: str, start: datetime, end: datetime) -> pl.LazyFrame:
        """The rows with `start` <= `column` < `end`; both in whole milliseconds, for the log's bounds are."""
        return self._scan(self._files_between(column, start, end)).filter(pl.col(column) >= start, pl.col(column) < end)

    def count_of_day(self, day: date) -> int:
        """Rows of the day, by the log."""
        return _count(self._files_of(day))

    def count_all(self) -> int:
        """Rows of the table, by the log."""
        return _count(self._files)

    def count_between(self, column: str, start: datetime, end: datetime) -> int:
        """An upper bound, by the log, of the rows between these two values."""
        return _count(self._files_between(column, start, end))

    def _files_of(self, day: date) -> pl.DataFrame:
        (column,) = self._partition_columns
        return self._files.filter(pl.col(f"partition.{column}") == day) if self._files.height else self._files

    def _files_between(self, column: str, start: datetime, end: datetime) -> pl.DataFrame:
        bounds = {f"min.{column}", f"max.{column}"}
        if not bounds <= set(self._files.columns):
            return self._files
        # A file without bounds may hold any row.
        return self._files.filter(
            (pl.col(f"min.{column}") < end).fill_null(True), (pl.col(f"max.{column}") >= start).fill_null(True)
        )

    def _scan(self, files: pl.DataFrame) -> pl.LazyFrame:
        own = pl.Schema({name: kind for name, kind in self._schema.items() if name not in self._partition_columns})
        if files.is_empty():
            return pl.LazyFrame(schema=own)
        return pl.scan_parquet(
            [f"{self._root}{path}" for path in files["path"]],
            schema=own,
            glob=False,
            hive_partitioning=False,
            missing_columns="insert",  # a column that was added later
            extra_columns="ignore",
            cast_options=pl.ScanCastOptions(
                integer_cast="upcast", float_cast="upcast", datetime_cast=["nanosecond-downcast", "convert-timezone"]
            ),
            cache=False,
            storage_options=self._options,
        )


def _count(files: pl.DataFrame) -> int:
    if files.is_empty():
        return 0
    known = pl.col("num_records") if "num_records" in files.columns else pl.lit(None, pl.Int64)
    return int(files.select(pl.coalesce(known, pl.col("size_bytes") // _BYTES_OF_ONE_ROW).sum()).item())
