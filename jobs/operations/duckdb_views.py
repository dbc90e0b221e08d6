"""Writes a DuckDB file with a view of each table, for people and programs that have DuckDB and nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobs.operations.sql_query import list_tables
from platform_assets.errors import UsageError

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

    from resources.lakehouse import LakehouseResource


def write_views(lakehouse: LakehouseResource, place: Path) -> dict[str, int]:
    """Writes the file anew, with a view `layer.table` of each table at its newest version; returns the versions.

    A view names the files of its version: it shows that one until the file is written anew, or, once upkeep has removed
    a file of it, an error. Who has the older file open goes on reading it. Raises `UsageError` for a lakehouse that is
    not on this machine, and where the file cannot be written.
    """
    import duckdb

    if lakehouse.local_root is None:
        raise UsageError(
            f"The lakehouse {lakehouse.root_uri} is in an object store, for which DuckDB needs an extension and keys. "
            "Ask it by headrace sql."
        )
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    versions: dict[str, int] = {}
    try:
        with duckdb.connect(str(draft)) as connection:
            for name in list_tables(lakehouse):
                table = lakehouse.delta_table(name)
                _write_view(connection, name, table, lakehouse.local_root)
                versions[name] = table.version()
        draft.replace(place)
    except (duckdb.IOException, OSError) as error:
        raise UsageError(f"{place} cannot be written: {error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return versions


def _write_view(connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, root: Path) -> None:
    import pyarrow as pa

    layer, own = name.split(".")
    schema = pa.schema(table.schema().to_arrow())
    columns = connection.from_arrow(schema.empty_table())
    empty = ", ".join(
        f"NULL::{kind} AS {_quote(column)}" for column, kind in zip(columns.columns, columns.types, strict=True)
    )
    rows = f"SELECT * FROM (SELECT {empty}) WHERE false"
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    partitions = table.metadata().partition_columns
    if actions:
        paths = [_escape(str(root / layer / own / unquote(action["path"]))) for action in actions]
        # A file lacks columns that were added later, and those of its partition, which its path has.
        types = ", ".join(f"{_quote(column)}: {columns.types[columns.columns.index(column)]}" for column in partitions)
        hive = f"hive_partitioning = true, hive_types = {{{types}}}" if partitions else "hive_partitioning = false"
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet({_as_list(paths)}, union_by_name = true, {hive})"
    view = f"{_quote(layer)}.{_quote(own)}"
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(layer)}")
    connection.execute(f"CREATE VIEW {view} AS {rows}")
    connection.execute(f"COMMENT ON VIEW {view} IS 'Version {table.version()} of {name}'")


def _escape(path: str) -> str:
    """Writes a path in which no sign means other files; settings refuse a root with brackets or question marks."""
    return path.replace("*", "[*]")


def _as_list(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
