"""Which times of a recording belong together, and which come from a clock that was wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

HOUR = 3_600_000_000
DAY = 24 * HOUR

# The part of the rows that one bad clock may have at most: the rest must be the recording.
_FAR_SHARE = 10
# How many rows it takes to tell which of them is wrong.
_FEWEST_ROWS = 4
# A row is far when the silence before it is this many times the longest silence among the others: a shop that closes at
# weekends has a Monday.
_LONGEST_SILENCES = 3


@dataclass
class TimeSurvey:
    """Times in microseconds since 1970, by the hour: memory follows the hours that have rows, not the rows.

    `add` each time, then ask `bounds`.
    """

    rows: int = 0
    # hour -> [rows, first, last]
    _hours: dict[int, list[int]] = field(default_factory=dict)

    def add(self, at: int) -> None:
        """Takes one row's time."""
        self.rows += 1
        hour = self._hours.setdefault(at // HOUR, [0, at, at])
        hour[0] += 1
        hour[1], hour[2] = min(hour[1], at), max(hour[2], at)

    def bounds(self, far: float) -> tuple[int, int] | None:
        """First and last time of the recording proper; what lies outside is far from the rest. None without rows.

        The core is the shortest time that holds nine tenths of the rows. It grows over silences of at most `far`
        microseconds (an hour or more), or three times its own longest silence where that is more. So at most a tenth
        of the rows, or one, is far; and none of fewer than four.
        """
        if not self._hours:
            return None
        hours = [self._hours[hour] for hour in sorted(self._hours)]
        if self.rows < _FEWEST_ROWS:
            return hours[0][1], hours[-1][2]
        first, last = _core(hours, self.rows - max(1, self.rows // _FAR_SHARE))
        silences = [after[1] - before[2] for before, after in pairwise(hours)]
        longest = max(far, _LONGEST_SILENCES * max(silences[first:last], default=0))
        while first > 0 and silences[first - 1] <= longest:
            first -= 1
        while last < len(hours) - 1 and silences[last] <= longest:
            last += 1
        return hours[first][1], hours[last][2]


def _core(hours: list[list[int]], rows: int) -> tuple[int, int]:
    """Places of the first and the last of the hours which hold `rows` rows in the shortest time."""
    best, shortest = (0, len(hours) - 1), hours[-1][2] - hours[0][1]
    first = held = 0
    for last, hour in enumerate(hours):
        held += hour[0]
        while held - hours[first][0] >= rows:
            held -= hours[first][0]
            first += 1
        if held >= rows and hour[2] - hours[first][1] < shortest:
            best, shortest = (first, last), hour[2] - hours[first][1]
    return best
