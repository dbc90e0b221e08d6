"""Finds Parquet files whose timestamps delta-rs would change when it rewrites them: those of type INT96.

Spark writes INT96 by default, other engines have given it up. delta-rs reads it as nanoseconds since 1970, which reach
from 1677 to 2262: out of 9999-12-31, a usual "for ever", it makes a day of 1816, and would write that down for good.
Our own files have microseconds, from Spark too.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import unquote

from platform_assets.errors import TableSchemaError
from platform_assets.folders import open_folder

if TYPE_CHECKING:
    from deltalake import DeltaTable

# A footer is two requests to an object store, some tens of milliseconds, and a table has hundreds of files.
_READERS = 8


class Int96Guard:
    """Checks the files of one table. Each file is read once: a footer takes a third of a millisecond on local disk."""

    def __init__(self, storage_options: Mapping[str, str] | None = None) -> None:
        self._storage_options = storage_options
        self._known: set[str] = set()

    def check(self, table: DeltaTable) -> None:
        """Raises `TableSchemaError` where a file of the table at its version has INT96 timestamps."""
        import pyarrow.parquet as pq

        files = set(_list_files(table))
        new = sorted(files - self._known)
        if new:
            folder = open_folder(table.table_uri, self._storage_options)

            def find(path: str) -> str | None:
                schema = pq.read_metadata(unquote(path), filesystem=folder).schema
                columns = (schema.column(number) for number in range(len(schema)))
                return next((column.path for column in columns if column.physical_type == "INT96"), None)

            with ThreadPoolExecutor(_READERS) as readers:
                found = [(path, column) for path, column in zip(new, readers.map(find, new), strict=True) if column]
            if found:
                raise TableSchemaError(_describe(table.table_uri, found[0], len(found)))
        self._known = files


def _list_files(table: DeltaTable) -> list[str]:
    import pyarrow as pa

    paths: list[str] = pa.table(table.get_add_actions())["path"].to_pylist()
    return paths


def _describe(uri: str, found: tuple[str, str], count: int) -> str:
    more = f" and {count - 1:,} others" if count > 1 else ""
    return (
        f"INT96 timestamps (column {found[1]}) in the file {found[0]}{more} of {uri}: another Spark writes them by "
        "default, and a date before 1677 or after 2262 would become a wrong one if the file were rewritten here. Set "
        "spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS in that Spark and have it rewrite the file, for "
        "instance with an UPDATE that sets a column to itself."
    )
