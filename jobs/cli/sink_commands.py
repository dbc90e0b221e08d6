"""The commands `headrace sink ...`: tables that are kept in step in Postgres."""

from __future__ import annotations

import click

from jobs.cli.reason_option import reason_option
from resources.settings import load_settings


@click.group
def sink() -> None:
    """List tables kept in step in Postgres, load one."""


@sink.command("list")
def list_sinks() -> None:
    """List the tables in Postgres, and how far each is."""
    from jobs.operations.sinks import build_targets, read_states
    from platform_assets.alerting.catalogue import load_groups
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    targets = build_targets(load_groups(), settings)
    for state in read_states(targets, settings, LakehouseResource.from_settings(settings)):
        version = "not loaded yet" if state.version is None else f"version {state.version}"
        loading = ", a load is under way" if state.is_loading else ""
        at = "" if state.applied_at is None else f", applied {state.applied_at:%Y-%m-%d %H:%M:%S} UTC"
        newest = "no table" if state.newest_version is None else f"version {state.newest_version}"
        left = "" if state.is_followed else "; no sink follows it, so drop it, or name it in HEADRACE_POSTGRES_TABLES"
        print(f"{state.table}: {version}{loading}, {state.rows:,} rows{at} (the Delta table: {newest}){left}")


@sink.command
@click.argument("table")
@reason_option()
def resync(table: str, reason: str) -> None:
    """Load a TABLE in Postgres anew.

    It is for one that somebody has changed there. Its rows stay until the new ones are there, in one transaction.
    """
    from jobs.operations.audit import audited, describe_act
    from jobs.operations.sinks import build_targets, choose_target, request_resync
    from platform_assets.alerting.catalogue import load_groups
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    act = describe_act("sink resync", reason, {"table": table})
    with audited(LakehouseResource.from_settings(settings), act):
        target = choose_target(build_targets(load_groups(), settings), table)
        request_resync(target, settings)
    print(f"{target.table.name} is loaded anew by its sink, within seconds where the group runs.")
