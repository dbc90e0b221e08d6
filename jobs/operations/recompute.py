"""Restarts a derived stream: removes its checkpoint, empties its table, and the next run computes it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.supervision.owned_groups import own_groups
from platform_assets.errors import QueryFailedError, UsageError
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import commit_metadata, open_table
from platform_assets.streaming.delta.retried_commits import MAX_CONFLICTS
from platform_assets.streaming.repair.expiry import warn_of_expired
from platform_assets.streaming.stream_spec import StreamGroup, TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from resources.settings import Settings


def recompute_stream(group: StreamGroup, name: str, settings: Settings) -> str:
    """Removes what the stream `name` has made. Its next start reads all of its source again, in order of event time.

    Returns which rows that cannot bring back, as a sentence; empty where it brings back all.

    The table stays where it is and keeps its history; readers see it empty until it has been computed again. Cut short,
    it is to be called again: the stream does not start before. Raises `GroupOwnedError` while the group runs on any
    host, and `UsageError` for a stream over Kafka, whose table holds what Kafka may have forgotten.
    """
    stream = next(stream for stream in group.streams if stream.name == name)
    if not isinstance(stream, TableStream):
        raise UsageError(f"Stream {name} reads Kafka: its rows can't be computed again from a table.")
    with own_groups([group.name], "recompute", settings) as owned:
        lakehouse = LakehouseResource.from_settings(settings)
        empty_stream(stream, lakehouse, owned.demand)
    return warn_of_expired(stream, lakehouse)


def empty_stream(stream: TableStream, lakehouse: LakehouseResource, demand: Callable[[], None]) -> None:
    """Removes what the stream has made. `demand` raises where the caller does not own the group any more."""
    demand()
    # In this order: rows without a checkpoint are refused, a checkpoint without rows would go on over the hole.
    lakehouse.remove_checkpoint(stream.main_table.name)
    of_stream = f"query = '{stream.name}'"
    for table, condition in (
        (COMPLETE_UNTIL.name, of_stream),
        (stream.main_table.name, None),
        (LATE_EVENTS.name, of_stream),
    ):
        demand()
        _delete(lakehouse.table_uri(table), condition, stream.name, lakehouse.storage_options())


def _delete(uri: str, condition: str | None, stream: str, options: dict[str, str]) -> None:
    from deltalake import CommitProperties
    from deltalake.exceptions import CommitFailedError, TableNotFoundError

    try:
        table = open_table(uri, options)
    except TableNotFoundError:
        return
    info = CommitInfo(CommitKind.RECOMPUTE, stream)
    properties = CommitProperties(custom_metadata=commit_metadata(info))
    for _ in range(MAX_CONFLICTS):
        try:
            table.delete(condition, commit_properties=properties)
        except CommitFailedError:  # another group, which goes on, has written its rows of the platform's table
            table.update_incremental()
        else:
            return
    raise QueryFailedError(f"The rows of {stream} could not be taken out of {uri}: others write it. Call it again.")
