"""What a query's batches have taken in all, since its host's start: plain values that only rise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

# A healthy batch takes some tenths of a second to some seconds. By HEADRACE_STUCK_TIMEOUT_SECONDS (600) its group is
# restarted. Each further bound is a further time series of each query.
DURATION_BOUNDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of a batch's duration, in seconds, by which `BatchTotals.durations` counts."""

WHOLE = "triggerExecution"
"""Spark's name of the whole batch among its parts."""
PARTS = ("latestOffset", "queryPlanning", "getBatch", "addBatch", "walCommit", "commitOffsets")
"""Spark's names of the parts of a batch."""


@dataclass(frozen=True)
class BatchTotals:
    """The sum over batches. Another host of the query begins at 0 again.

    `durations` has the number of batches that took at most as long as each of `DURATION_BOUNDS`, but longer than the
    bound before; the last number is of those that took longer than all bounds.
    """

    batches: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS) + 1)
    part_seconds: Mapping[str, float] = field(default_factory=dict)

    def add(self, millis: Mapping[str, int]) -> BatchTotals:
        """The totals with one batch more, of which Spark says how long each part took."""
        seconds = millis.get(WHOLE, 0) / 1000
        place = bisect_left(DURATION_BOUNDS, seconds)
        durations = tuple(count + (index == place) for index, count in enumerate(self.durations))
        parts = {part: round(self.part_seconds.get(part, 0.0) + millis.get(part, 0) / 1000, 3) for part in PARTS}
        return BatchTotals(self.batches + 1, round(self.seconds + seconds, 3), durations, parts)
