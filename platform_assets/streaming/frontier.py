"""The frontier of silver.events: the event time up to which everything that was sent on time has been read.

Streams over the table take it as their source's time, so that a watermark does not depend on how a backlog was cut into
batches, nor on one partition being ahead of the others, nor on a clock that is wrong. It rides in each commit next to
the batch's ledger and is the same on every replay; `commit_source` hands it to the queries.

Why nothing that was on time falls behind it: an event counts with its own time, but not later than it was sent and
arrived, and not at all when it is dated far ahead of that: its clock says nothing about anyone else's. (Where most
senders of a partition are far ahead, their events count as when they were sent: see `sender_clocks`.) Where a
partition holds unread records, all of them were sent after the last one read from it; those that wait behind an open
transaction, after a time that is known (`open_transactions`). Where none does, all future records are sent after the
batch's time, which no counted time exceeds. So whatever is read later was sent after the
frontier, and is late only if it was later than the watermark's delay when it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.streaming.sender_clocks import FAR_MICROS, SenderClocks

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

# A record's Kafka timestamp is when it was sent, unless nobody set it (-1) or a producer's clock is off: one that lies
# a day before its event would hold the frontier back for ever.
SENT_BEFORE_EVENT_MICROS = 86_400 * 1_000_000


@dataclass(frozen=True)
class Frontier:
    """All in microseconds since the epoch; None or absent before the first event.

    `partitions` holds, by Kafka partition, the latest counted time of what was read from it; `latest_event` the latest
    event time as the events say, however far ahead.
    """

    micros: int | None = None
    partitions: Mapping[int, int] = field(default_factory=dict)
    latest_event: int | None = None
    clocks: SenderClocks = field(default_factory=SenderClocks)

    def as_json(self) -> dict[str, Any]:
        """What the commit holds."""
        return {
            "frontier": self.micros,
            "frontier_partitions": {str(p): micros for p, micros in sorted(self.partitions.items())},
            "latest_event": self.latest_event,
            "clocks": self.clocks.as_json(),
        }

    @classmethod
    def parse(cls, commit: Mapping[str, Any]) -> Frontier:
        """The reverse of `as_json`; the first frontier for a commit that has none."""
        partitions = {int(p): int(micros) for p, micros in commit.get("frontier_partitions", {}).items()}
        clocks = SenderClocks.parse(commit.get("clocks", {}))
        return cls(commit.get("frontier"), partitions, commit.get("latest_event"), clocks)

    def advance(
        self,
        partitions: Int64s,
        event_micros: Int64s,
        sent_micros: Int64s,
        arrival_micros: int,
        unread: Set[int],
        senders: Int64s,
        held_since: int | None = None,
    ) -> Frontier:
        """The frontier after a batch. Never goes back.

        The arrays hold the accepted events, one item each: Kafka partition, event time, Kafka timestamp, and a
        number for its sender. `unread` are the partitions that may hold records that the batch has left. `held_since`:
        a time before which nothing was sent that waits behind an open transaction (None: nothing waits; not positive:
        nobody can say).
        """
        was_sent = np.where(sent_micros < event_micros - SENT_BEFORE_EVENT_MICROS, arrival_micros, sent_micros)
        at_most = np.minimum(was_sent, arrival_micros)
        clocks = self.clocks.observe(partitions, event_micros - at_most, at_most, senders)
        trusted = [partition for partition in np.unique(partitions).tolist() if clocks.is_ahead(partition)]
        # One event of next week, even counted as if it were now, would close the windows of a shop whose events
        # arrive an hour late. Where that is the rule, nothing else would move them.
        counts = (event_micros <= at_most + FAR_MICROS) | np.isin(partitions, trusted)
        counted, counted_partitions = np.minimum(event_micros, at_most)[counts], partitions[counts]
        reached = dict(self.partitions)
        for partition in np.unique(counted_partitions).tolist():
            newest = int(counted[counted_partitions == partition].max())
            reached[partition] = max(reached.get(partition, newest), newest)
        latest = later(self.latest_event, int(event_micros.max()) if len(event_micros) else None)
        found = _frontier_of(reached, unread)
        if found is not None and held_since is not None:
            found = min(found, held_since) if held_since > 0 else None
        return Frontier(later(self.micros, found), reached, latest, clocks)

    def without_marks(self) -> Frontier:
        """The frontier as far as events have brought it, by when they were sent: before what silences have added."""
        reached = max(self.partitions.values(), default=None)
        # In a backlog that is cut it is behind that: with the partition that is furthest behind.
        if reached is None or self.micros is None:
            return replace(self, micros=reached)
        return replace(self, micros=min(reached, self.micros))

    def mark(self, micros: int) -> Frontier:
        """The frontier when, at that time, nothing was unread. What usually comes later than that may still come."""
        return replace(self, micros=later(self.micros, micros - self.clocks.usual_delay_micros))


def later(one: int | None, other: int | None) -> int | None:
    """The later of two moments; None is unknown."""
    return max((micros for micros in (one, other) if micros is not None), default=None)


def _frontier_of(reached: Mapping[int, int], unread: Set[int]) -> int | None:
    if not unread:
        return max(reached.values(), default=None)
    if any(partition not in reached for partition in unread):
        return None
    return min(reached[partition] for partition in unread)
