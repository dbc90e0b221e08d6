"""Has the tables in Postgres follow an erasure, before the files are gone by which their sinks know the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jobs.supervision.host import Application, host_group
from jobs.supervision.terminal import Terminal, WriteLine
from platform_assets.errors import (
    DatabaseUnavailableError,
    GroupOwnedError,
    HeadraceError,
    InstanceUnavailableError,
    InterruptedByUserError,
)
from platform_assets.sinks.sink_group import SinkGroup, find_left_behind
from platform_assets.sinks.target import Target
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource


def follow_erasure(
    groups: Sequence[StreamGroup],
    settings: Settings,
    lakehouse: LakehouseResource,
    demand: Callable[[], None],
    write: WriteLine,
) -> tuple[str, ...]:
    """Brings each table of a sink to the newest version; returns sentences on those that could not be.

    The sinks' groups are the caller's, and rest; `demand` raises where they are not any more. A database that is away
    keeps nobody from erasing: VACUUM comes all the same, and the sink loads the table anew when it goes on. Raises
    `InterruptedByUserError`, and what `demand` raises.
    """
    targets = [Target(table, settings.postgres_schema) for group in groups for table in group.sinks]
    if not targets:
        return ()
    write("the tables in Postgres follow")
    left = []
    for target in targets:

        @contextmanager
        def open_sink(target: Target = target) -> Iterator[Application]:
            yield Application(partial(SinkGroup, [target], settings, lakehouse, demand), None)

        port, grace = Terminal(f"forget-user: {target.table.name}", write), settings.stop_grace_seconds
        try:
            if not host_group(open_sink, port, grace_seconds=grace, bounded=True).finished:
                raise InterruptedByUserError("Interrupted. Call it again for the same user: it does the rest.")
        except (GroupOwnedError, InstanceUnavailableError, InterruptedByUserError):
            raise
        except HeadraceError as error:
            left.append(
                f"{target.table.name} in Postgres may still have the user, until its sink has loaded it anew. {error}"
            )
    return (*left, *_name_left_behind(targets, settings))


def _name_left_behind(targets: Sequence[Target], settings: Settings) -> tuple[str, ...]:
    try:
        names = find_left_behind(targets, settings)
    except DatabaseUnavailableError:
        return ()  # which the sentences above say
    return tuple(
        f"{name} in Postgres is followed by no sink any more and may have the user: drop it, or name it in "
        "HEADRACE_POSTGRES_TABLES."
        for name in names
    )
