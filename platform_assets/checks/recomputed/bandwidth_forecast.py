"""gold.bandwidth_forecast once more: the next day's bytes by host and hour, and the errors of such forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports.bandwidth_forecast import (
    DAYS_OF_DAILY,
    HISTORY,
    LEAST_WEEKS,
    MEASURED_DAYS,
    WEEKS_OF_WEEKLY,
)
from platform_assets.reports.days import DayRange
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE

_HOUR = ["host", "hour"]


def recompute_forecast(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The hosts of the portion. One forecast after the other: of the next day, and of each of the measured days."""
    start, end = DayRange(day - timedelta(days=HISTORY), day).start, DayRange(day, day).end
    minutes = sources[TRAFFIC_BY_MINUTE.name].between("window_start", start, end).filter(portion.holds("host"))
    start_of = pl.col("window_start").dt
    sums = collect(
        minutes.group_by("host", day=start_of.date(), hour=start_of.hour().cast(pl.Int32))
        .agg(pl.col("bytes_sent").sum().cast(pl.Float64).alias("bytes"))
    )  # fmt: skip
    clock = pl.DataFrame({"hour": range(24)}, {"hour": pl.Int32})
    seen = sums.select("host", "day").unique().join(clock, how="cross")
    known = seen.join(sums, on=["host", "day", "hour"], how="left", nulls_equal=True).with_columns(
        pl.col("bytes").fill_null(0.0)
    )
    measured = [_measure(known, day - timedelta(days=back)) for back in range(MEASURED_DAYS)]
    errors = (
        pl.concat(measured)
        .group_by(_HOUR)
        .agg(
            pl.len().cast(pl.Int64).alias("measured_days"),
            (pl.col("bytes") - pl.col("expected_bytes")).abs().mean().alias("mean_error_bytes"),
            (pl.col("bytes") - pl.col("naive_bytes")).abs().mean().alias("naive_error_bytes"),
            pl.col("bytes").mean().alias("mean_bytes"),
        )
    )
    found = _foretell(known, day + timedelta(days=1)).join(errors, on=_HOUR, how="left", nulls_equal=True)
    return found.with_columns(pl.col("measured_days").fill_null(0), report_date=pl.lit(day)).lazy()


def _measure(known: pl.DataFrame, day: date) -> pl.DataFrame:
    """What was sent on a day, next to both forecasts of it."""
    actual = known.filter(pl.col("day") == day).select(*_HOUR, "bytes")
    both = _foretell(known, day).filter(pl.col("naive_bytes").is_not_null())
    return actual.join(both, on=_HOUR, how="inner", nulls_equal=True)


def _foretell(known: pl.DataFrame, day: date) -> pl.DataFrame:
    """The forecast of a day, by what is known of the days before it."""
    days_ago = (pl.lit(day) - pl.col("day")).dt.total_days()
    rows = known.with_columns(ago=days_ago).filter(pl.col("ago") > 0)
    week = rows.filter(pl.col("ago") <= DAYS_OF_DAILY).group_by(_HOUR).agg(
        pl.col("bytes").median().alias("daily"), pl.len().cast(pl.Int64).alias("days"),
        pl.col("bytes").filter(pl.col("ago") == 1).first().alias("naive_bytes"),
    )  # fmt: skip
    same = rows.filter(pl.col("ago").is_in([7 * number for number in range(1, WEEKS_OF_WEEKLY + 1)]))
    weeks = same.group_by(_HOUR).agg(
        pl.col("bytes").median().alias("weekly"), pl.len().cast(pl.Int64).alias("weeks")
    )  # fmt: skip
    both = week.join(weeks, on=_HOUR, how="left", nulls_equal=True)
    is_weekly = pl.col("weeks").fill_null(0) >= LEAST_WEEKS
    return both.select(
        *_HOUR,
        "naive_bytes",
        expected_bytes=pl.when(is_weekly).then("weekly").otherwise("daily"),
        known_days=pl.when(is_weekly).then("weeks").otherwise("days"),
    )
