"""Which topics a user is erased from: those that say whose a record is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.errors import UsageError
from platform_assets.reports import REPORT_TABLES
from platform_assets.streaming.repair.erasure import Eraser
from platform_assets.streaming.stream_spec import Stream, select_derived, select_ingest
from platform_assets.tables.platform import LATE_EVENTS

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext


def build_erasers(user: str, user_hash: str, streams: Sequence[Stream], context: StreamContext) -> dict[str, Eraser]:
    """An eraser for each topic that has users, by its table of accepted records. Raises `UsageError` for none."""
    ingests, derived = select_ingest(streams), select_derived(streams)
    accepted = {ingest.main_table.name for ingest in ingests}
    # What is not of one topic alone is the first one's to erase.
    others = [stream for stream in derived if stream.source.table.name not in accepted]
    tables, found = (LATE_EVENTS, *REPORT_TABLES), dict[str, Eraser]()
    for ingest in (ingest for ingest in ingests if ingest.main_table.roles.user_id is not None):
        own = [stream for stream in derived if stream.source.table.name == ingest.main_table.name]
        found[ingest.main_table.name] = Eraser(user, user_hash, ingest, [*own, *others], tables, context)
        tables, others = (), []
    if not found:
        raise UsageError("No topic says whose its records are: there is nobody to forget.")
    return found


def list_user_fields(streams: Sequence[Stream]) -> tuple[str, ...]:
    """The fields by which topics say whose a record is."""
    return tuple(name for stream in select_ingest(streams) for name in stream.main_table.roles.user_fields)


def list_without_users(streams: Sequence[Stream]) -> tuple[str, ...]:
    """Sentences about topics that are left alone, for nobody knows whose their records are."""
    tables = (stream.main_table for stream in select_ingest(streams))
    return tuple(
        f"{table.name} does not say whose a record is: it is left as it is." for table in tables
        if table.roles.user_id is None
    )  # fmt: skip
