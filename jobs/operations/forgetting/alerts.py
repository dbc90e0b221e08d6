"""Erases the alerts of a user who is forgotten: a key or a text may name the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.retried_commits import retry_conflicts
from platform_assets.tables.platform import ALERTS

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource


def erase_alerts(lakehouse: LakehouseResource, engine: DuckDBResource, user: str) -> int:
    """Takes all rows of alerts out that a row of the user has opened; returns how many alerts those were.

    The alerts' group is the caller's, and rests. Old files stay until `remove_files`. What channels have told before
    is out of reach.
    """
    table = lakehouse.find_table(ALERTS.name)
    if table is None or not (ids := _find_alerts(engine, table, user)):
        return 0
    names = ", ".join(f"'{alert_id}'" for alert_id in ids)

    def is_done() -> bool:
        return not _find_alerts(engine, table, user)

    retry_conflicts(
        table, lambda: table.delete(f"alert_id IN ({names})"), is_done, "The erasure of alerts lost", table.table_uri
    )
    return len(ids)


def _find_alerts(engine: DuckDBResource, table: DeltaTable, user: str) -> list[str]:
    with engine.connected() as connection:
        register_pinned(connection, "transitions", table)
        found = connection.execute("SELECT DISTINCT alert_id FROM transitions WHERE user_id = $1", [user]).fetchall()
    return [alert_id for (alert_id,) in found]


def remove_files(lakehouse: LakehouseResource) -> None:
    """Removes the files that erased rows are in. Nobody may read them any more."""
    table = lakehouse.find_table(ALERTS.name)
    if table is not None:
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
