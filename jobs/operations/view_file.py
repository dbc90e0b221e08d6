"""Writes a DuckDB file with a view of each table of the lakehouse, for tools that read DuckDB: notebooks, BI, dbt."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.operations.sql_query import AsOf, find_final_rows, go_to_state, list_tables
from platform_assets.delta_reader import select_local_rows
from platform_assets.errors import UsageError

if TYPE_CHECKING:
    import duckdb

    from resources.lakehouse import LakehouseResource


def write_view_file(lakehouse: LakehouseResource, place: Path, as_of: AsOf) -> dict[str, int]:
    """Puts the file in the place of an older one; returns each table's version, as the views show it.

    The views have the tables' names, `gold.sessions`, and read the lakehouse's own files: the file holds no row. They
    show these versions for as long as upkeep keeps their files. Who has the older file open goes on reading it.

    Raises `UsageError` for a lakehouse whose tables DuckDB cannot read by itself, for a state that is not there, and
    where the file cannot be written; the older one is as it was then.
    """
    import duckdb

    names = list_tables(lakehouse)
    if not names:
        raise UsageError(f"There is no table in {lakehouse.root_uri} yet; streams make them when they start.")
    if unknown := as_of.versions.keys() - set(names):
        raise UsageError(f"--at names {', '.join(sorted(unknown))}. Tables: {', '.join(names)}.")
    # Next to it: only there it can take the other's place in one step.
    new = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        with duckdb.connect(str(new)) as connection:
            versions = {name: _add_view(connection, lakehouse, name, as_of) for name in names}
        new.replace(place)
    except (duckdb.IOException, OSError) as error:
        raise UsageError(f"{place} cannot be written: {error}") from None
    finally:
        new.unlink(missing_ok=True)
    return versions


def _add_view(connection: duckdb.DuckDBPyConnection, lakehouse: LakehouseResource, name: str, as_of: AsOf) -> int:
    table = lakehouse.delta_table(name)
    go_to_state(table, name, as_of)
    rows = select_local_rows(connection, table)
    if rows is None:
        raise UsageError(
            f"DuckDB cannot read the files of {name} by itself, which a view needs: {table.table_uri}. Of tables in an "
            "object store, take rows by `headrace sql --format parquet`, or DuckDB's own extension `delta`."
        )
    condition = find_final_rows(lakehouse, name) if as_of.is_complete else "true"
    layer, own = name.split(".")
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{layer}"')
    connection.execute(f'CREATE VIEW "{layer}"."{own}" AS SELECT * FROM ({rows}) AS r WHERE {condition}')
    return table.version()
