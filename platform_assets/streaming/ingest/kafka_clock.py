"""What time it is by the clocks of Kafka and of those who send, where records say it.

A silence moves time by this host's clock. If that is hours ahead for a minute, time is too, and what comes in the hours
after it is late. A record that lies after the end of an earlier look was sent after that look, so by the clock that
stamped it, it was no later than its timestamp then; since then this host's steady clock counts, which nobody sets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from platform_assets.streaming.frontier import later
from platform_assets.streaming.sender_clocks import FAR_MICROS

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s
    from platform_assets.streaming.topic_snapshot import Ends

# Looks are made before each batch and some seconds apart in a silence: a batch holds what came since the last of these,
# or is part of a backlog, which says nothing.
_LOOKS_KEPT = 16
# One sender may be a device that has been off, and passes on what it kept under the timestamps of then. Where a few of
# these are the first to be heard, they would keep a silent shop's windows open for as long as they had been off.
_FEWEST_SENDERS = 10


class KafkaClock:
    """The clock of one topic in one process. `fetch_ends` is safe from any thread, the rest from one at a time.

    `fetch` gives both ends of each partition, or None while Kafka does not answer; `steady` is a clock that is never
    set, in microseconds.
    """

    def __init__(
        self, fetch: Callable[[], Ends | None], steady: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self._fetch, self._steady = fetch, steady
        self._looks: deque[tuple[int, Ends]] = deque(maxlen=_LOOKS_KEPT)
        self._senders: set[int] = set()
        self._lead: int | None = None

    def fetch_ends(self) -> Ends | None:
        """The ends of all partitions, which are remembered."""
        began, ends = self._steady(), self._fetch()
        if ends is not None:
            self._looks.append((began, ends))
        return ends

    def observe(self, partitions: Int64s, offsets: Int64s, sent_micros: Int64s, senders: Int64s) -> None:
        """Takes note of accepted events: where they lie, their Kafka timestamps, and a number for each one's sender."""
        for began, ends in reversed(self._looks):
            is_new = np.zeros(len(offsets), dtype=bool)
            for partition, (_, end) in ends.items():
                is_new |= (partitions == partition) & (offsets >= end)
            if is_new.any():
                if len(self._senders) < _FEWEST_SENDERS:
                    self._senders.update(np.unique(senders[is_new])[:_FEWEST_SENDERS].tolist())
                # The latest of several answers counts: an old record that is passed on now says less than the others.
                self._lead = later(self._lead, int(sent_micros[is_new].max()) - began)
                return

    def bound(self, micros: int) -> int:
        """A moment by this host's clock, or where that is more than five minutes ahead of what records say, theirs."""
        if self._lead is None or len(self._senders) < _FEWEST_SENDERS:
            return micros
        at_most = self._steady() + self._lead
        return at_most if micros > at_most + FAR_MICROS else micros
