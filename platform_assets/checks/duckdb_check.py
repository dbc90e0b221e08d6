"""The frame of the checks that ask one table of a lakehouse something by DuckDB."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.reports.assets import REPORTS_POOL
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    pass

Look = Callable[..., dg.AssetCheckResult]
"""Judges the table; called in the run, with a connection of its own, the table, and the others or None for them."""


def build_duckdb_check(
    table: TableSpec, name: str, description: str, look: Look, of_no_table: str, *others: TableSpec
) -> dg.AssetChecksDefinition:
    """The check `name` of this table, which passes with `of_no_table` before there is one.

    `others` are read too. Needs the resources `lakehouse` and `duckdb`. Raises `StorageError` when DuckDB's memory or
    disk is too small.
    """

    @dg.asset_check(
        asset=list(table.asset_path),
        name=name,
        description=description,
        required_resource_keys={"lakehouse", "duckdb"},
        pool=REPORTS_POOL,
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from platform_assets.reports.duckdb_engine import clear_errors

        found = context.resources.lakehouse.find_table(table.name)
        if found is None:
            return dg.AssetCheckResult(passed=True, description=of_no_table)
        with context.resources.duckdb.connected() as connection, clear_errors():
            return look(connection, found, *(context.resources.lakehouse.find_table(other.name) for other in others))

    return check
