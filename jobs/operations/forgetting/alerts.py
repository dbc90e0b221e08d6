"""Erases the alerts of a user who is forgotten: a key or a text may name the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.streaming.delta.retried_commits import retry_conflicts
from platform_assets.tables.platform import ALERTS

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource


def erase_alerts(lakehouse: LakehouseResource, user: str) -> int:
    """Takes all rows of alerts out that a row of the user has opened; returns how many alerts those were.

    The alerts' group is the caller's, and rests. Old files stay until `remove_files`. What channels have told before
    is out of reach.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    table = lakehouse.find_table(ALERTS.name)
    if table is None:
        return 0
    found = table.to_pyarrow_dataset().to_table(columns=["alert_id"], filter=ds.field("user_id") == user)
    ids = sorted(pc.unique(found["alert_id"]).to_pylist())
    if not ids:
        return 0
    names = ", ".join(f"'{alert_id}'" for alert_id in ids)
    condition = f"alert_id IN ({names})"

    def is_done() -> bool:
        return table.to_pyarrow_dataset().count_rows(filter=ds.field("alert_id").isin(ids)) == 0

    retry_conflicts(table, lambda: table.delete(condition), is_done, "The erasure of alerts lost", table.table_uri)
    return len(ids)


def remove_files(lakehouse: LakehouseResource) -> None:
    """Removes the files that erased rows are in. Nobody may read them any more."""
    table = lakehouse.find_table(ALERTS.name)
    if table is not None:
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
