"""Names tables of the lakehouse in a DuckDB connection, those that do not exist yet as well."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable


def register_table(
    lakehouse: Any,
    connection: duckdb.DuckDBPyConnection,
    spec: TableSpec,
    name: str,
    bounds: tuple[str, date, date] | None = None,
) -> None:
    """Does `register_rows` at the table's newest version."""
    register_rows(connection, spec, lakehouse.find_table(spec.name), name, bounds)


def register_rows(
    connection: duckdb.DuckDBPyConnection,
    spec: TableSpec,
    table: DeltaTable | None,
    name: str,
    bounds: tuple[str, date, date] | None = None,
) -> None:
    """Names a table's rows, of the files that may have rows within the bounds; none where there is no table yet.

    See `register_pinned`. A name may be given again, to other rows.
    """
    columns = build_arrow_schema(spec)
    if table is None:
        connection.register(f"no_{name}", columns.empty_table())
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM no_{name}")
    else:
        register_pinned(connection, name, table, bounds, columns)
