"""Days (UTC) as the reports' partitions and as contiguous ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from platform_assets.streaming.moments import count_micros

# The setting `first_day` where nobody sets it. The pages of Dagster list every partition: a first day long before the
# shop's first event would bury the real ones.
FIRST_DAY = date(2024, 1, 1)

ONE_DAY = timedelta(days=1)

# An event without a table: the stream group materializes a day's partition when the day is closed, that is when every
# stream's table is complete until its end and beyond what may still be open then.
CLOSED_DAYS_KEY = dg.AssetKey(["platform", "closed_days"])


def closed_days_key(closed_days: str) -> dg.AssetKey:
    """The key of a group's closed days, by `StreamGroup.closed_days`; `CLOSED_DAYS_KEY` is that of the shop's group."""
    return dg.AssetKey(["platform", closed_days])


def build_daily_partitions(first_day: date = FIRST_DAY) -> dg.DailyPartitionsDefinition:
    """One partition a UTC day from `first_day` to today inclusive (today's is provisional until the day is closed)."""
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", end_offset=1)


@dataclass(frozen=True)
class DayRange:
    """A contiguous, non-empty range of UTC days: `first` and `last` inclusive."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        """The first instant of the range (UTC)."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the range (UTC)."""
        day_after = self.last + ONE_DAY
        return datetime(day_after.year, day_after.month, day_after.day, tzinfo=UTC)

    def days(self) -> list[date]:
        """Each day, in order."""
        return [self.first + number * ONE_DAY for number in range((self.last - self.first).days + 1)]

    def predicate(self, date_column: str) -> str:
        """The range as SQL, understood by Spark, Delta's `replaceWhere` and DuckDB."""
        return f"{date_column} >= DATE '{self.first}' AND {date_column} <= DATE '{self.last}'"

    def relation(self) -> str:
        """The days as a query in DuckDB's dialect: `report_date`, and `start_micros`, its first moment since 1970."""
        starts = [(day, count_micros(DayRange(day, day).start)) for day in self.days()]
        return " UNION ALL ".join(
            f"SELECT DATE '{day}' AS report_date, CAST({micros} AS BIGINT) AS start_micros" for day, micros in starts
        )

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def day_range_of(context: dg.AssetExecutionContext) -> DayRange:
    """The days of this run: one partition, or the whole range of a single-run backfill."""
    window = context.partition_time_window
    return DayRange(window.start.date(), (window.end - ONE_DAY).date())


def split_days(days: Iterable[date], longest: int) -> list[DayRange]:
    """The days as ranges without a hole, each of at most `longest` days, in order."""
    ranges: list[DayRange] = []
    for day in sorted(set(days)):
        before = ranges[-1] if ranges else None
        if before is not None and day == before.last + ONE_DAY and (day - before.first).days < longest:
            ranges[-1] = DayRange(before.first, day)
        else:
            ranges.append(DayRange(day, day))
    return ranges
