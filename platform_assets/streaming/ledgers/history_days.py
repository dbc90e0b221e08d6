"""Removes the oldest days of what the platform writes about itself and nothing depends on (`HEADRACE_HISTORY_DAYS`).

That are the queries' progress, and late events that were repaired so long ago. The ledgers keep all: of them each batch
is needed, and days that are over are rolled up instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.moments import as_delta_sql, find_midnight
from platform_assets.tables.platform import LATE_EVENTS, QUERY_PROGRESS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

# A deletion rewrites the files that it takes rows from: the streams' other upkeep must not wait for years.
_DAYS_OF_ONE_ROUND = 31


@dataclass(frozen=True)
class Kept:
    """A table of the platform, and the time by which its rows are kept. Rows without one are kept."""

    spec: TableSpec
    column: str


KEPT = (Kept(QUERY_PROGRESS, "started_at"), Kept(LATE_EVENTS, "repaired_at"))


class HistoryDays:
    """Call it from one thread."""

    def __init__(self, context: StreamContext) -> None:
        self._days = context.history_days
        self._tables = {kept: DeltaWriter(kept.spec, context) for kept in KEPT}
        self._until: dict[Kept, date] = {}

    def remove(self, now: datetime) -> set[str]:
        """Removes what is older, or a month of it; returns the names of the tables that lost rows. Looks once a day."""
        until, found = now.astimezone(UTC).date() - timedelta(days=self._days), set()
        for kept, table in self._tables.items():
            if self._until.get(kept) == until:
                continue
            oldest = table.find_least(kept.column)
            last = until if oldest is None else min(until, oldest + timedelta(days=_DAYS_OF_ONE_ROUND))
            if oldest is not None and oldest < until:
                moment = as_delta_sql(find_midnight(last))
                table.delete(f"{kept.column} < {moment}", CommitInfo(CommitKind.EXPIRY, last.isoformat()))
                found.add(kept.spec.name)
            if last == until:
                self._until[kept] = until
        return found
