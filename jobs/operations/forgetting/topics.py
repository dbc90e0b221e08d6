"""Which topics a user is erased from: those that say whose a record is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.errors import UsageError
from platform_assets.reports import ALL_DAILY_REPORTS, list_report_tables
from platform_assets.reports.whole import ALL_WHOLE_TABLES
from platform_assets.streaming.repair.erasure import Eraser
from platform_assets.streaming.stream_spec import Stream, StreamGroup, select_derived, select_ingest
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.tables.platform import LATE_EVENTS

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource


def build_erasers(user: str, user_hash: str, streams: Sequence[Stream], context: StreamContext) -> dict[str, Eraser]:
    """An eraser for each topic that has users, by its table of accepted records. Raises `UsageError` for none."""
    ingests, derived = select_ingest(streams), select_derived(streams)
    accepted = {ingest.main_table.name for ingest in ingests}
    # What is not of one topic alone is the first one's to erase.
    others = [stream for stream in derived if stream.source.table.name not in accepted]
    reports = (*list_report_tables(ALL_DAILY_REPORTS), *(whole.table for whole in ALL_WHOLE_TABLES))
    tables, found = (LATE_EVENTS, CARD_RELEASES, *reports), dict[str, Eraser]()
    for ingest in (ingest for ingest in ingests if ingest.main_table.roles.user_id is not None):
        own = [stream for stream in derived if stream.source.table.name == ingest.main_table.name]
        found[ingest.main_table.name] = Eraser(user, user_hash, ingest, [*own, *others], tables, context)
        tables, others = (), []
    if not found:
        raise UsageError("No topic says whose its records are: there is nobody to forget.")
    return found


def demand_all_enabled(
    groups: Sequence[StreamGroup], enabled: Sequence[StreamGroup], lakehouse: LakehouseResource
) -> None:
    """Raises `UsageError` where rows of users would stay, for their group is not enabled here."""
    names = [group.name for group in enabled]
    for group in (group for group in groups if group.name not in names):
        for ingest in select_ingest(group.streams):
            table = ingest.main_table
            if table.roles.user_id is not None and lakehouse.find_table(table.name) is not None:
                raise UsageError(
                    f"{table.name} has users too, and its group {group.name} is not enabled here: nothing was erased. "
                    f"Call this again with HEADRACE_GROUPS={','.join([*names, group.name])}."
                )


def list_without_users(streams: Sequence[Stream]) -> tuple[str, ...]:
    """Sentences about topics that are left alone, for nobody knows whose their records are."""
    tables = (stream.main_table for stream in select_ingest(streams))
    return tuple(
        f"{table.name} does not say whose a record is: it is left as it is." for table in tables
        if table.roles.user_id is None
    )  # fmt: skip
