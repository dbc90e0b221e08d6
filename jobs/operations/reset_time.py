"""Sets the time of a topic's events back to where its events have brought it: for when a host's clock was ahead.

A silence closes windows by the clock of the host that runs the streams. Was that clock ahead, all that comes is late
until the right time is there: repaired, but late, and called complete before it has happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobs.operations.recompute import empty_stream
from jobs.supervision.owned_groups import own_groups
from platform_assets.errors import NotReadyError
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import commit_metadata, open_table, read_commit_infos
from platform_assets.streaming.delta.retried_commits import no_hooks
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.frontier import Frontier
from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup, select_downstream
from platform_assets.tables.platform import COMPLETE_UNTIL
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.settings import Settings

# Each mark of a silence is a commit: this number covers at least as many minutes.
_COMMITS_SEARCHED = 10_000


@dataclass(frozen=True)
class TimeReset:
    """A topic's time before and after it was set, and the streams that begin anew: their watermarks cannot go back.

    `table` has the topic's events.
    """

    table: str
    before: datetime
    now: datetime
    streams: tuple[str, ...]


def reset_time(group: StreamGroup, settings: Settings) -> list[TimeReset]:
    """Writes the frontiers that the events have reached, by Kafka's timestamps, and empties the streams over them.

    These compute their tables from their source at their next start, as after `headrace recompute`. Cut short, it is
    to be called again. Returns those topics' times that were set back. Raises `GroupOwnedError` while the group runs,
    and `NotReadyError` where there is nothing to do.
    """
    lakehouse = LakehouseResource.from_settings(settings)
    with own_groups([group.name], "reset-time", settings) as owned:
        found = [_reset(ingest, group, lakehouse, owned.demand) for ingest in group.ingest]
    if not (done := [each for each in found if isinstance(each, TimeReset)]):
        raise NotReadyError(" ".join(dict.fromkeys(each for each in found if isinstance(each, str))))
    return done


def _reset(
    ingest: KafkaStream, group: StreamGroup, lakehouse: LakehouseResource, demand: Callable[[], None]
) -> TimeReset | str:
    """Sets the time of one topic's events back; a sentence where there is nothing to do."""
    from deltalake.exceptions import TableNotFoundError

    options, name = lakehouse.storage_options(), ingest.main_table.name
    try:
        table = open_table(lakehouse.table_uri(name), options)
    except TableNotFoundError:
        return f"{name} does not exist yet: no time to be set back."
    before = _read_frontier(table)
    reached = before.without_marks()
    if before.micros is None or reached.micros is None:
        return f"There is no event in {name} yet: no time to be set back."
    now = _moment(reached.micros)
    uri = lakehouse.table_uri(COMPLETE_UNTIL.name)
    # Once time is set back all of them: what a query took from its source last is not in its state yet.
    ahead = [
        stream
        for stream in select_downstream([ingest], group.streams)
        if (
            reached != before
            or (state := read_complete_until(uri, stream.name, options)) is None
            or state["watermark"] > now - stream.source.watermark_delay
        )
    ]
    if reached == before and not ahead:
        return f"The time of {name} is {now:%Y-%m-%d %H:%M:%S} UTC, as far as its events have brought it."
    if reached != before:
        demand()
        _write_frontier(table, ingest.name, reached)
    for stream in ahead:
        empty_stream(stream, lakehouse, demand)
    return TimeReset(name, _moment(before.micros), now, tuple(stream.name for stream in ahead))


def _read_frontier(table: DeltaTable) -> Frontier:
    commits = (info.frontier for _, info in read_commit_infos(table, _COMMITS_SEARCHED))
    return Frontier.parse(next((frontier for frontier in commits if frontier is not None), {}))


def _write_frontier(table: DeltaTable, query: str, frontier: Frontier) -> None:
    import pyarrow as pa
    from deltalake import CommitProperties, write_deltalake

    body = commit_metadata(CommitInfo(CommitKind.RESET_TIME, query=query, frontier=frontier.as_json()))
    nothing = pa.schema(table.schema().to_arrow()).empty_table()
    write_deltalake(
        table, nothing, mode="append", commit_properties=CommitProperties(custom_metadata=body),
        post_commithook_properties=no_hooks(),
    )  # fmt: skip


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)
