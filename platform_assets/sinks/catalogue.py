"""Which tables the settings have kept in step in Postgres, as a group next to those of the streams."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from platform_assets.errors import CatalogueError, SettingError
from platform_assets.reports import list_report_tables, select_reports
from platform_assets.reports.whole import select_whole_tables
from platform_assets.sinks.target import Target
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams import load_stream_groups
from platform_assets.tables.spec import TableSpec
from resources.postgres_settings import split_tables
from resources.settings import Settings, load_settings

GROUP_NAME = "postgres"

_LAYERS = ("silver", "gold")


def load_groups() -> tuple[StreamGroup, ...]:
    """The groups that `load_stream_groups` gives, and last the group `postgres` where HEADRACE_POSTGRES_URL is set.

    Last, so that a drain of one after the other has written the tables before. Raises as that, and `SettingError` for
    a table that no enabled group or report writes, or that Postgres cannot hold.
    """
    groups, settings = load_stream_groups(), load_settings()
    if not settings.postgres_url.get_secret_value():
        return groups
    if any(group.name == GROUP_NAME for group in groups):
        raise CatalogueError(
            f"The group {GROUP_NAME} of platform_assets/groups has the name of the sinks' one. Rename it."
        )
    sinks = select_tables(list_tables(groups), settings)
    return (*groups, StreamGroup(GROUP_NAME, (), f"closed_days_{GROUP_NAME}", sinks=sinks))


def list_tables(groups: Sequence[StreamGroup]) -> dict[str, TableSpec]:
    """The silver and gold tables that these groups and their reports write, by name."""
    streams = list(chain.from_iterable(group.streams for group in groups))
    tables = [table for stream in streams for table in stream.tables]
    reports, wholes = list_report_tables(select_reports(tables)), select_whole_tables(tables)
    found = (*tables, *reports, *(whole.table for whole in wholes))
    return {table.name: table for table in found if table.layer in _LAYERS}


def select_tables(known: dict[str, TableSpec], settings: Settings) -> tuple[TableSpec, ...]:
    """The tables that HEADRACE_POSTGRES_TABLES names, in its order. Raises `SettingError`."""
    names = split_tables(settings.postgres_tables)
    if not names:
        raise SettingError(
            "HEADRACE_POSTGRES_TABLES names no table. Write those to keep in step, such as gold.sessions, or unset "
            "HEADRACE_POSTGRES_URL."
        )
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"HEADRACE_POSTGRES_TABLES: no enabled group writes {', '.join(unknown)}. There are: "
            f"{', '.join(sorted(known))}."
        )
    try:
        return tuple(Target(known[name], settings.postgres_schema).table for name in names)
    except CatalogueError as error:
        raise SettingError(f"HEADRACE_POSTGRES_TABLES: {error}") from None
