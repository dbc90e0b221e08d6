"""What Dagster's instance said last: which streams run, what the checks said, and how fast rows come."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.watching.platform_reading import PlatformReading

# A stream commits each ten seconds or so: a shorter look back would show a rate of nothing between two commits.
_RATE_SECONDS = 60.0


@dataclass(frozen=True)
class PlatformView:
    """`reading` is None before the first one. `trouble` says why there is no newer one; empty: there is.

    `rates` are rows a second by group and query, over the last minute, where two heartbeats of one host are known.
    """

    reading: PlatformReading | None = None
    read_at: datetime | None = None
    trouble: str = ""
    rates: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def find_progress(self, query: str) -> tuple[datetime, Mapping[str, Any]] | None:
        """What the host of this query has reported last of it, and when; None where it never did."""
        for group in self.reading.groups.values() if self.reading is not None else ():
            if group.report is not None and query in group.report.queries:
                return datetime.fromtimestamp(group.report.heartbeat.at, UTC), group.report.queries[query]
        return None

    def find_verdict(self, table: str, check: str) -> ShownVerdict | None:
        """The newest verdict of a check; None where it gave none."""
        for verdict in self.reading.verdicts if self.reading is not None else ():
            if (verdict.table, verdict.check) == (table, check):
                return ShownVerdict(verdict.severity, datetime.fromtimestamp(verdict.given_at, UTC))
        return None


@dataclass(frozen=True)
class ShownVerdict:
    """`severity` is `error` or `warn` of a failure, None of a pass."""

    severity: str | None
    moment: datetime


class RowRates:
    """Rows a second, from the counts that heartbeats bring."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], deque[tuple[float, int]]] = defaultdict(deque)

    def add(self, reading: PlatformReading) -> dict[tuple[str, str], float]:
        """Takes a reading's counts, and returns the rates with them."""
        rates = {}
        for group, found in reading.groups.items():
            for query, progress in (found.report.queries if found.report is not None else {}).items():
                assert found.report is not None
                rate = self._add((group, query), found.report.heartbeat.at, int(progress["rows_in"]))
                if rate is not None:
                    rates[group, query] = rate
        return rates

    def _add(self, key: tuple[str, str], at: float, rows: int) -> float | None:
        counts = self._counts[key]
        if counts and (rows < counts[-1][1] or at < counts[-1][0]):  # another host counts from 0
            counts.clear()
        if not counts or at > counts[-1][0]:
            counts.append((at, rows))
        while len(counts) > 2 and at - counts[1][0] >= _RATE_SECONDS:
            counts.popleft()
        seconds = counts[-1][0] - counts[0][0]
        return (counts[-1][1] - counts[0][1]) / seconds if seconds > 0 else None
