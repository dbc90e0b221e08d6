"""What waits for its repair: of millions of late events their number, their hours, and as many as one look repairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.derive.query_state import name_counted_hours
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import pyarrow as pa

# Old events that are sent into a platform that runs wait by the million: all of them, of each stream, would be
# gigabytes twice a minute.
EVENTS_OF_ONE_LOOK = 200_000


@dataclass
class WaitingEvents:
    """Fed with portions of rows of `LATE_EVENTS` without `repaired_at`, of all streams; takes those of its stream.

    Those before `kept_from` (None: no time) are not repaired. Of those at or before `closed_until` that batch `done`
    or an earlier one has read, in no later version of the source than `version`, it keeps as many as one look repairs:
    `leave_out` drops those that cannot be.
    """

    stream: TableStream
    done: int
    version: int
    watermark: datetime
    kept_from: datetime | None
    leave_out: Callable[[TableStream, pa.Table, datetime], pa.Table]
    count: int = 0
    is_cut: bool = False
    _hours: Counter[datetime] = field(default_factory=Counter)
    _due: list[pa.Table] = field(default_factory=list)

    def take(self, late: pa.Table) -> None:
        """Counts the stream's events among these, and keeps those that can be repaired."""
        import pyarrow.compute as pc

        own = late.filter(pc.equal(late["query"], self.stream.name))
        if self.kept_from is not None:
            own = own.filter(pc.field("event_time") >= self.kept_from)
        self.count += len(own)
        hours = pc.value_counts(pc.floor_temporal(own["event_time"], unit="hour")).to_pylist()
        self._hours.update({row["values"].astimezone(UTC): row["counts"] for row in hours})
        room = EVENTS_OF_ONE_LOOK - sum(map(len, self._due))
        if not room and self.is_cut:
            return
        changed_in = pc.field("source_version")
        is_read = (pc.field("batch_id") <= self.done) & (changed_in.is_null() | (changed_in <= self.version))
        is_closed = pc.field("event_time") <= self.watermark - self.stream.span.longest_open
        due = self.leave_out(self.stream, own.filter(is_read & is_closed), self.watermark)
        self.is_cut |= len(due) > room
        self._due.append(due.slice(0, room))

    def name_hours(self) -> str:
        """The hours in which they lie: see `query_state.name_hours`."""
        return name_counted_hours(self._hours)

    def due(self, schema: pa.Schema) -> pa.Table:
        """The events that this look repairs."""
        import pyarrow as pa

        return pa.concat_tables([schema.empty_table(), *self._due])
