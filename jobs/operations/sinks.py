"""What people ask of the sinks: how far each is, and that one is loaded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError, UsageError
from platform_assets.sinks import accounts
from platform_assets.sinks.table_log import TableLog
from platform_assets.sinks.target import Target
from platform_assets.streaming.stream_spec import StreamGroup
from resources import postgres
from resources.settings import Settings

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource


@dataclass(frozen=True)
class SinkState:
    """One table in the database. `is_followed`: a sink of the settings keeps it in step; others get old there."""

    table: str
    version: int | None
    newest_version: int | None
    rows: int
    applied_at: datetime | None
    is_loading: bool
    is_followed: bool


def build_targets(groups: Sequence[StreamGroup], settings: Settings) -> tuple[Target, ...]:
    """The targets of all sinks. Raises `UsageError` where there is none."""
    targets = tuple(Target(table, settings.postgres_schema) for group in groups for table in group.sinks)
    if not targets:
        raise UsageError("There is no sink: set HEADRACE_POSTGRES_URL and HEADRACE_POSTGRES_TABLES.")
    return targets


def read_states(targets: Sequence[Target], settings: Settings, lakehouse: LakehouseResource) -> list[SinkState]:
    """How far each sink is, and each table that no sink follows any more. Raises what a connection raises."""
    url, followed = settings.postgres_url.get_secret_value(), [target.table.name for target in targets]
    connection = postgres.connect(url)
    try:
        with postgres.transaction(connection, url) as cursor:
            known = accounts.list_accounts(cursor, settings.postgres_schema)
    finally:
        connection.close()
    states = []
    for name in [*followed, *sorted(known.keys() - set(followed))]:
        row = known.get(name, {})
        bounds = TableLog(name, lakehouse.table_uri(name), lakehouse.storage_options()).read_bounds()
        newest = None if bounds is None else bounds[1]
        is_loading = row.get("load_version") is not None
        states.append(
            SinkState(
                name,
                row.get("version"),
                newest,
                row.get("rows", 0),
                row.get("applied_at"),
                is_loading,
                name in followed,
            )
        )
    return states


def request_resync(target: Target, settings: Settings) -> None:
    """Has the sink load its table anew: within seconds where it runs, else when it does.

    The rows stay until the load has ended. Raises `NotReadyError` where the sink has never run, and what a connection
    raises.
    """
    url = settings.postgres_url.get_secret_value()
    connection = postgres.connect(url)
    try:
        with postgres.transaction(connection, url) as cursor:
            if target.table.name not in accounts.list_accounts(cursor, target.schema):
                raise NotReadyError(f"The sink of {target.table.name} has never run: it loads its table by itself.")
            accounts.request_load(cursor, target)
    finally:
        connection.close()


def choose_target(targets: Sequence[Target], name: str) -> Target:
    """The target of the table that a person names. Raises `UsageError`."""
    found = next((target for target in targets if name in (target.table.name, target.name)), None)
    if found is None:
        known = ", ".join(target.table.name for target in targets)
        raise UsageError(f"No sink keeps {name} in step. There are: {known}.")
    return found
