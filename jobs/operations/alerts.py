"""What people ask of alerts: which are open, and that somebody looks at one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.alerting.alert_table import AlertState, append_acknowledgement, read_states
from platform_assets.alerting.message import flatten
from platform_assets.errors import UsageError
from platform_assets.tables.platform import ALERTS

if TYPE_CHECKING:
    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource


def list_alerts(
    lakehouse: LakehouseResource, engine: DuckDBResource, closed_since: datetime | None = None
) -> list[AlertState]:
    """The open alerts and those that were closed since then, the newest first; none where no alert was ever opened."""
    table = lakehouse.find_table(ALERTS.name)
    return [] if table is None else read_states(engine, table, closed_since=closed_since)


def acknowledge_alert(
    lakehouse: LakehouseResource, engine: DuckDBResource, alert_id: str, by: str, reason: str
) -> AlertState:
    """Has it on record that somebody looks at an alert; channels tell of it. Returns the alert as it was before.

    Again is no error, and changes nothing: the first one counts. Raises `UsageError` for one that is not open.
    """
    table = lakehouse.find_table(ALERTS.name)
    states = [] if table is None else read_states(engine, table, alert_id=alert_id)
    if not states:
        raise UsageError(f"There is no alert {alert_id}. headrace alerts list has those that are open.")
    [state] = states
    if state.closed_at is not None:
        raise UsageError(f"The alert {alert_id} is closed, since {state.closed_at:%Y-%m-%d %H:%M:%S} UTC.")
    if state.acknowledged_at is None and table is not None:
        append_acknowledgement(table, state, by, reason)
    return state


def describe(state: AlertState) -> str:
    """One line for a terminal. What stands in a record begins no line of its own."""
    about = f" {state.key}" if state.key else ""
    looks = f", {state.acknowledged_by} looks at it" if state.acknowledged_at is not None else ""
    until = "open" if state.closed_at is None else f"closed {state.closed_at:%H:%M:%S}"
    return flatten(
        f"{state.alert_id}  {state.severity:8} {state.opened_at:%Y-%m-%d %H:%M:%S}  {state.alert}{about}: {state.text} "
        f"({state.rows:,} rows, {until}{looks}; {state.owner})"
    )
