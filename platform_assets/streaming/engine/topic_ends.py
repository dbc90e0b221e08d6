"""Looks at the ends of a topic: what waits behind open transactions, and up to when all that was sent is readable."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.topic_snapshot import HeldRecords, UnreadRecords

if TYPE_CHECKING:
    from platform_assets.streaming.topic_snapshot import Ends

# Some looks: the newest report of a query that has nothing to do is up to ten seconds old.
_LOOKS_KEPT = 100


class TopicEnds:
    """The looks at one topic, from one thread. `fetch_ends` and `fetch_times` are those of `KafkaIngest`."""

    def __init__(
        self,
        fetch_ends: Callable[[], Ends | None],
        fetch_times: Callable[[Mapping[int, int]], Mapping[int, datetime] | None] | None,
    ) -> None:
        self._fetch_ends, self._fetch_times = fetch_ends, fetch_times
        self.held = HeldRecords()
        """What waited behind open transactions at the last look. From any thread."""
        self.unread: UnreadRecords | None = None
        """What the query had not read at the last look; None while that is not known. From any thread."""
        self._held_from: dict[int, int] = {}
        self._stable: dict[int, int] = {}
        self._stable_before: dict[int, int] = {}
        self._all_visible_at: deque[int] = deque(maxlen=_LOOKS_KEPT)
        self.look()

    def look(self) -> None:
        """Notes the time if nothing waits behind an open transaction: all that was sent before is then readable.

        Otherwise it notes how much waits, and since when.
        """
        now, ends = time.time_ns() // 1000, self._fetch_ends()
        if ends is None:
            return
        self._stable_before, self._stable = self._stable, {p: stable for p, (stable, _) in ends.items()}
        held_from = {partition: stable for partition, (stable, end) in ends.items() if stable < end}
        if not held_from:
            self._all_visible_at.append(now)
        # Its first record stays the same while a transaction is open: it is read once.
        since = self.held.since
        if held_from != self._held_from:
            since = self._find_oldest(held_from)
        self._held_from = held_from
        self.held = HeldRecords(sum(end - stable for stable, end in ends.values()), since)

    def compare(self, next_offsets: Mapping[int, int]) -> None:
        """Notes what a query has not read that reads these offsets next. Call it after `look`.

        When the oldest record was sent is asked only where it was there at the look before: a query under load always
        has some records unread, and each such question opens a consumer.
        """
        unread = {p: n for p, n in next_offsets.items() if n < self._stable.get(p, 0)}
        is_old = any(n < self._stable_before.get(p, 0) for p, n in unread.items())
        records = sum(self._stable[p] - n for p, n in unread.items())
        self.unread = UnreadRecords(records, self._find_oldest(unread) if is_old else None)

    def find_visible(self, until_micros: int | None = None) -> int | None:
        """The last look up to this time at which nothing was held back, microseconds; None: there was none."""
        return max((at for at in self._all_visible_at if until_micros is None or at <= until_micros), default=None)

    def _find_oldest(self, positions: Mapping[int, int]) -> datetime | None:
        times = self._fetch_times(positions) if self._fetch_times is not None and positions else None
        return min((times or {}).values(), default=None)
