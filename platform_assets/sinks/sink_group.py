"""Runs the sinks of a group, each in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError
from platform_assets.sinks import accounts
from platform_assets.sinks.followers import FollowerGroup
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.target import Target
from platform_assets.streaming.stream_spec import name_sink
from resources import postgres
from resources.duckdb import DuckDBResource

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# What differs between two versions of a file: DuckDB's memory for it, of each sink that is at work.
_MEMORY_MIB = 256

_log = logging.getLogger(__name__)


class SinkGroup(FollowerGroup):
    """The sinks of these targets. A database that is away disturbs neither the group nor the streams."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: Settings,
        lakehouse: LakehouseResource,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        engine = DuckDBResource.from_settings(settings.model_copy(update={"reports_memory_mib": _MEMORY_MIB}))
        url = settings.postgres_url.get_secret_value()
        self.sinks = {name_sink(target.table): Sink(target, url, lakehouse, engine, check_lease) for target in targets}
        super().__init__(self.sinks)
        self._targets, self._settings = targets, settings

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Starts as `FollowerGroup.start`; one that runs on says first which tables nobody follows."""
        if not bounded:
            self._name_left_behind()
        super().start(bounded=bounded, paused=paused)

    def _name_left_behind(self) -> None:
        """Says which tables in the schema get old there, for nobody follows them. Away is said by the sinks."""
        try:
            left = find_left_behind(self._targets, self._settings)
        except HeadraceError:
            return
        for name in left:
            _log.warning("%s in Postgres is followed by no sink any more: drop it, or name it in "
                         "HEADRACE_POSTGRES_TABLES.", name)  # fmt: skip


def find_left_behind(targets: Sequence[Target], settings: Settings) -> tuple[str, ...]:
    """Tables in the schema that a sink has made and none of these targets follows: their rows get old there.

    Raises what a connection raises.
    """
    url, schema = settings.postgres_url.get_secret_value(), settings.postgres_schema
    connection = postgres.connect(url)
    try:
        with postgres.transaction(connection, url) as cursor:
            known = accounts.list_accounts(cursor, schema)
    finally:
        connection.close()
    return tuple(sorted(known.keys() - {target.table.name for target in targets}))
