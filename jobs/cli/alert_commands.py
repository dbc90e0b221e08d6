"""The commands `headrace alerts ...`: what somebody must look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from jobs.cli.reason_option import reason_option
from resources.settings import load_settings


@click.group
def alerts() -> None:
    """List alerts, say that you look at one."""


@alerts.command("list")
@click.option("--hours", type=click.IntRange(min=0), default=0, help="Those closed within so many hours as well.")
def list_open(hours: int) -> None:
    """List the alerts that are open, the newest first. All times are UTC."""
    from jobs.operations.alerts import describe, list_alerts
    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    since = datetime.now(UTC) - timedelta(hours=hours) if hours else None
    found = list_alerts(LakehouseResource.from_settings(settings), DuckDBResource.from_settings(settings), since)
    for state in found:
        print(describe(state))
    if not found:
        print("No alert is open." if settings.alerts.strip() else "No alert is open: HEADRACE_ALERTS names none.")


@alerts.command
@click.argument("alert_id")
@reason_option()
def acknowledge(alert_id: str, reason: str) -> None:
    """Say that you look at the alert ALERT_ID.

    Its channels tell the others. It stays open until its rows, or their absence, close it.
    """
    from jobs.operations.alerts import acknowledge_alert
    from jobs.operations.audit import audited, describe_act
    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_act("alerts acknowledge", reason, {"alert": alert_id})
    with audited(lakehouse, act):
        state = acknowledge_alert(lakehouse, DuckDBResource.from_settings(settings), alert_id, act.who, act.reason)
    if state.acknowledged_at is not None:
        print(f"{state.acknowledged_by} looks at it already, since {state.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC.")
    else:
        print(f"It is on record that {act.who} looks at the alert {alert_id}.")
