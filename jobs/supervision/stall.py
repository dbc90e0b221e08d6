"""Tells a query that is stuck from one that works or waits: alive and busy with one and the same batch for too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.streaming.progress import QueryProgress


@dataclass(frozen=True)
class Stall:
    """The query that has been busy with one batch the longest, and for how long."""

    query: str
    seconds: float


class StallWatch:
    """Looks at a group's progress with each heartbeat. One instance a host."""

    def __init__(self) -> None:
        self._busy_since: dict[str, tuple[int, float]] = {}

    def look(self, progress: Mapping[str, QueryProgress], now: float) -> Stall | None:
        """The longest stall now, None when no query is busy. `now` is a monotonic clock in seconds.

        The clock of a query that was seen idle, or has committed a batch, starts over: an idle stream is busy for
        milliseconds at each trigger, and a look may meet some of them.
        """
        for name, query in progress.items():
            if not query.busy:
                self._busy_since.pop(name, None)
            elif name not in self._busy_since or self._busy_since[name][0] != query.batch_id:
                self._busy_since[name] = (query.batch_id, now)
        stalls = [Stall(name, now - since) for name, (_, since) in self._busy_since.items() if name in progress]
        return max(stalls, key=lambda stall: stall.seconds, default=None)
