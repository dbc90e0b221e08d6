"""Removes alerts that were closed long ago (`HEADRACE_HISTORY_DAYS`), and where the alerts' readers had been before.

An alert goes as a whole, by its id: rows that were left of it would look like an open one. Each reader notes where it
is once a minute, and the newest note alone is ever read.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.moments import as_delta_sql, find_midnight
from platform_assets.tables.platform import ALERT_POSITIONS, ALERTS

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

# Without it each look would be a commit that takes out the note of a minute ago.
_LEAST_NOTES = 1_000


class AlertHistory:
    """Call it from one thread. Several groups may do so at the same time: what one finds done is done."""

    def __init__(self, context: StreamContext) -> None:
        self._context = context
        self._until: date | None = None

    def remove(self, now: datetime) -> set[str]:
        """Removes what is older; returns the names of the tables that lost rows. Looks once a day.

        Raises `QueryFailedError` when other writers win again and again; what is left then is removed by a later call.
        """
        until = now.astimezone(UTC).date() - timedelta(days=self._context.history_days)
        if self._until == until:
            return set()
        found = {
            spec.name
            for spec, has_lost in (
                (ALERTS, self._remove_closed(until)),
                (ALERT_POSITIONS, self._remove_notes(now.astimezone(UTC).date())),
            )
            if has_lost
        }
        self._until = until
        return found

    def _remove_closed(self, until: date) -> bool:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = DeltaWriter(ALERTS, self._context)
        moment = find_midnight(until)
        # By the time alone: a filter over texts that delta-rs has compacted fails (arrow#49368).
        rows = table.read_arrow(["alert_id", "transition", "at"], pc.field("at") < moment)
        closed = rows.filter(pc.equal(rows["transition"].cast(pa.string()), "closed"))
        if not len(closed):
            return False
        table.erase(closed.select(["alert_id"]), "true", CommitInfo(CommitKind.EXPIRY, until.isoformat()))
        return True

    def _remove_notes(self, today: date) -> bool:
        import pyarrow as pa

        table = DeltaWriter(ALERT_POSITIONS, self._context)
        notes = table.read_arrow(["reader", "noted_at"])
        newest = (
            notes.set_column(0, "reader", notes["reader"].cast(pa.string()))
            .group_by("reader")
            .aggregate([("noted_at", "max")])
            .to_pylist()
        )
        if len(notes) - len(newest) < _LEAST_NOTES:
            return False
        # Readers are named by files and settings: letters, digits and underscores.
        older = " OR ".join(
            f"(reader = '{row['reader']}' AND noted_at < {as_delta_sql(row['noted_at_max'])})" for row in newest
        )
        table.delete(older, CommitInfo(CommitKind.EXPIRY, today.isoformat()))
        return True
