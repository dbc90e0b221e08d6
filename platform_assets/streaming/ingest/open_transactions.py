"""Since when records wait in Kafka behind an open transaction, which a batch could not read.

Spark plans a batch up to the last stable offset of each partition. Behind it lies what an open transaction has sent,
and everyone after it, and time must not pass it by: these records are on time, and cannot be read. So before each batch
is read, Kafka is asked for both ends of each partition; what lies after an earlier look's end was sent after it.
A partition that was held stays so until a batch has read all that is there: the transaction may have ended between the
plan and the look. One that begins after a look, and ends within the milliseconds between the next plan and its look, is
not seen: what it held is as late as the time between two batches is long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.moments import count_micros

if TYPE_CHECKING:
    from platform_assets.streaming.topic_snapshot import Ends


class OpenTransactions:
    """Finds open transactions of one topic. Call it from one thread.

    `fetch_ends` is asked at each look, and gives None while Kafka does not answer; `fetch_times` when the first record
    at or behind each offset was sent, which is asked only where no earlier look says it.
    """

    def __init__(
        self,
        fetch_ends: Callable[[], Ends | None],
        fetch_times: Callable[[Mapping[int, int]], Mapping[int, datetime] | None],
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._fetch_ends, self._fetch_times, self._now = fetch_ends, fetch_times, now
        self._looks: deque[tuple[int, Ends]] = deque()
        self._held: set[int] | None = None
        self._times: dict[tuple[int, int], int] = {}

    def find_since(self, read_until: Mapping[int, int]) -> int | None:
        """A time (microseconds) before which nothing that waits was sent; None: nothing waits. 0: nobody can say.

        `read_until` is up to where a batch that was just planned reads, by partition; others are not asked for.
        """
        at, ends = self._now(), self._fetch_ends()
        if ends is None:
            return 0
        held = set()
        for partition, (stable, end) in ends.items():
            was_held = self._held is None or partition in self._held
            if stable < end or (was_held and read_until.get(partition, end) < end):
                held.add(partition)
        asked = {(partition, read_until[partition]) for partition in held & read_until.keys()}
        since = {place: self._find_time(*place) for place in asked}
        self._held, self._times = held, since
        self._looks.append((at, ends))
        # An older look is of no use where the next one says the same of all that can be asked from now on.
        while len(self._looks) > 1 and all(_is_before(self._looks[1][1], *place) for place in read_until.items()):
            self._looks.popleft()
        return min(since.values(), default=None)

    def _find_time(self, partition: int, offset: int) -> int:
        for at, ends in reversed(self._looks):
            if _is_before(ends, partition, offset):
                return at
        if (partition, offset) in self._times:
            return self._times[partition, offset]
        times = self._fetch_times({partition: offset}) or {}
        return count_micros(times[partition]) if partition in times else 0


def _is_before(ends: Ends, partition: int, offset: int) -> bool:
    """Whether the record at this offset was written after this look."""
    return partition in ends and ends[partition][1] <= offset
