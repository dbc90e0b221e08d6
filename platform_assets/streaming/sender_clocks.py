"""What the events' times say of their senders' clocks: most of them ahead of the time of sending, or far behind it.

One device with a wrong clock says nothing about anyone else's. But where most senders of a partition are ahead (local
times of a zone east of UTC without an offset, servers without NTP), no event time could be believed, and time would
stand still. And where most events come long after they happened (a zone west of UTC, hourly uploads), a silence does
not mean that nothing more of the last hour comes.

Counts of the newest events only, so that a clock that was set right is believed again. They ride in each commit next to
the frontier, and are the same on every replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

FAR_MICROS = 5 * 60 * 1_000_000
"""Clocks of shops differ by seconds, and events come within seconds: beyond five minutes a time is no use as it is."""

# A device that sends often counts once a batch. With fewer of these, one device alone would be the rule.
_FEWEST_SENDERS = 2
# The newest senders and events that are remembered: some minutes of a busy shop, after which a corrected clock counts.
_SENDERS = 1_000
_EVENTS = 10_000
# A burst of old events is a backlog that somebody sends again; only what lasts this long is how a shop sends.
_LAGS_FOR_MICROS = 5 * 60 * 1_000_000
# Nearly all events of an hourly upload are younger than this quantile; a straggler of days must not delay all.
_USUAL_PERCENTILE = 95.0
# The delay of a shop that sends faster than before is forgotten in some hundred batches.
_FORGOTTEN_OF_DELAY = 64


@dataclass(frozen=True)
class SenderClocks:
    """Times in microseconds. `ahead` holds, by Kafka partition, how many of how many senders were far ahead.

    `lagging` of `events` events came far behind their time. Since they are most, from the time of sending
    `lagging_since` to `lagging_until`, the latest event has gone from `latest_then` to `latest_now`, and `delay` is how
    far behind they come.
    """

    ahead: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    lagging: int = 0
    events: int = 0
    lagging_since: int | None = None
    lagging_until: int = 0
    latest_then: int = 0
    latest_now: int = 0
    delay: int = 0

    @property
    def usual_delay_micros(self) -> int:
        """How long after their time events come as the rule; 0 where they come within five minutes.

        And 0 for old events that somebody sends again: their times go on faster than the clock.
        """
        if self.lagging_since is None:
            return 0
        lasted, went_on = self.lagging_until - self.lagging_since, self.latest_now - self.latest_then
        return self.delay if lasted >= _LAGS_FOR_MICROS and went_on <= 2 * lasted else 0

    def is_ahead(self, partition: int) -> bool:
        """Whether most senders of the partition are more than five minutes ahead of the time of sending."""
        ahead, senders = self.ahead.get(partition, (0, 0))
        return senders >= _FEWEST_SENDERS and 2 * ahead > senders

    def observe(self, partitions: Int64s, lead_micros: Int64s, sent_micros: Int64s, senders: Int64s) -> Self:
        """Adds a batch's accepted events, one item each: how much later than sent it is dated, and when it was sent.

        `senders` has a number for each event's sender, the same for the same sender.
        """
        if not len(partitions):
            return self
        ahead = _count_senders(self.ahead, partitions, lead_micros > FAR_MICROS, senders)
        lagging, events = _keep_newest(
            self.lagging + int(np.count_nonzero(lead_micros < -FAR_MICROS)), self.events + len(partitions), _EVENTS
        )
        if 2 * lagging <= events:
            return type(self)(ahead, lagging, events)
        own = max(0, -int(np.percentile(lead_micros, 100 - _USUAL_PERCENTILE)))
        delay = max(own, self.delay - self.delay // _FORGOTTEN_OF_DELAY)
        until, latest = int(sent_micros.max()), int((sent_micros + lead_micros).max())
        if self.lagging_since is None:
            return type(self)(ahead, lagging, events, int(sent_micros.min()), until, latest, latest, delay)
        until, latest = max(until, self.lagging_until), max(latest, self.latest_now)
        return type(self)(ahead, lagging, events, self.lagging_since, until, self.latest_then, latest, delay)

    def as_json(self) -> dict[str, Any]:
        """What the commit holds."""
        return {
            "ahead": {str(partition): list(counts) for partition, counts in sorted(self.ahead.items())},
            "lagging": [self.lagging, self.events],
            "lagging_time": None if self.lagging_since is None else [self.lagging_since, self.lagging_until],
            "lagging_latest": [self.latest_then, self.latest_now],
            "delay": self.delay,
        }

    @classmethod
    def parse(cls, commit: Mapping[str, Any]) -> Self:
        """The reverse of `as_json`; nothing is known where a commit has none."""
        ahead = {int(partition): (int(a), int(n)) for partition, (a, n) in commit.get("ahead", {}).items()}
        lagging, events = commit.get("lagging", (0, 0))
        since, until = commit.get("lagging_time") or (None, 0)
        then, now = commit.get("lagging_latest", (0, 0))
        return cls(ahead, lagging, events, since, until, then, now, commit.get("delay", 0))


def _count_senders(
    known: Mapping[int, tuple[int, int]], partitions: Int64s, is_ahead: Any, senders: Int64s
) -> dict[int, tuple[int, int]]:
    found = dict(known)
    for partition in np.unique(partitions).tolist():
        own = partitions == partition
        ahead, count = found.get(partition, (0, 0))
        ahead += _count_distinct(senders[own & is_ahead])
        count += _count_distinct(senders[own])
        found[partition] = _keep_newest(ahead, count, _SENDERS)
    return found


def _count_distinct(numbers: Int64s) -> int:
    # `np.unique` takes thirty times as long.
    return int(np.count_nonzero(np.diff(np.sort(numbers)))) + 1 if len(numbers) else 0


def _keep_newest(part: int, whole: int, limit: int) -> tuple[int, int]:
    """Both numbers, made smaller together until the whole is the limit: what was counted before weighs less."""
    return (part, whole) if whole <= limit else (part * limit // whole, limit)
