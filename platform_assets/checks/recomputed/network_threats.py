"""gold.network_threats once more: networks that did too much of what attackers do on a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports.network_threats import (
    BURST,
    PASSWORD_GUESSING,
    PATH_SCAN,
    SCANNED_STATUSES,
    SPREAD_GUESSING,
    STATIC_FILE,
    Limit,
)
from platform_assets.topics.access_logs import ACCEPTED, ACCESS_LOGS, CLOSED, FAILED, WEB

_COLUMNS = (
    "network", "event_time", "host", "service", "user_name", "path", "status", "outcome", "auth_method", "repeated",
)  # fmt: skip
# Further apart than two times of one day: places of different groups are never within a limit of each other.
_TWO_DAYS = 2 * 86_400_000_000


def recompute_threats(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The threats of the portion (by network). Of log-ins all of the day are read, for a crowd is of many networks."""
    lines = sources[ACCESS_LOGS.name].of_day(day).select(_COLUMNS).filter(pl.col("network").is_not_null())
    lines = lines.with_columns(n=pl.col("repeated").fill_null(1).cast(pl.Int64))
    logins = collect(lines.filter(pl.col("outcome").is_not_null()))
    accepted = logins.filter(pl.col("outcome") == ACCEPTED).select("network", "event_time")
    guesses = _find_guesses(logins)
    own = portion.holds("network")
    requests = collect(
        lines.filter(own, pl.col("service") == WEB)
        .with_columns(target=pl.col("path").fill_null(""), n=pl.lit(1, pl.Int64))
        .filter(pl.col("target").str.to_lowercase().str.contains(STATIC_FILE).not_())
        .select("network", "event_time", "host", "status", "target", "n")
    )
    missed = (
        requests.filter(pl.col("status").is_in(SCANNED_STATUSES))
        .group_by("network", "host", "target")
        .agg(pl.col("event_time").min(), pl.lit(1, pl.Int64).alias("n"))
    )
    events, peak, targets = (pl.col(name).cast(pl.String) for name in ("events", "peak", "targets"))
    within = pl.format("{} failed log-ins, {} of them within 10 minutes; users: {}", events, peak, targets)
    scanned = pl.format("{} paths that are not there, {} of them within a minute", events, peak)
    asked = pl.format("{} requests, {} of them within a minute; paths: {}", events, peak, targets)
    tried = pl.format(
        "{} failed log-ins; users: {}, tried by up to {} networks within an hour", events, targets, peak
    )  # fmt: skip
    found = pl.concat(
        [
            _judge(guesses.filter(own), "password_guessing", PASSWORD_GUESSING).with_columns(words=within),
            _judge(missed, "path_scan", PATH_SCAN).with_columns(words=scanned),
            _judge(requests, "burst", BURST).with_columns(words=asked),
            _find_crowds(guesses, accepted).filter(own).with_columns(words=tried),
        ]
    )
    entered = (
        found.filter(pl.col("rule").is_in(["password_guessing", "spread_guessing"]))
        .join(accepted, on="network", suffix="_accepted")
        .filter(pl.col("event_time") >= pl.col("reached_at"))
        .group_by("network", "rule")
        .agg(logged_in_at=pl.col("event_time").min())
    )
    return found.join(entered, on=["network", "rule"], how="left").with_columns(report_date=pl.lit(day)).lazy()


def _find_guesses(logins: pl.DataFrame) -> pl.DataFrame:
    is_refused = (pl.col("outcome") == FAILED) & (pl.col("auth_method").fill_null("") != "publickey")
    refused = logins.filter(is_refused)
    closed = logins.filter(pl.col("outcome") == CLOSED).join(refused, on="network", how="anti")
    guesses = pl.concat([refused, closed]).select("network", "event_time", "host", "user_name", "n")
    return guesses.rename({"user_name": "target"})


def _judge(events: pl.DataFrame, rule: str, limit: Limit) -> pl.DataFrame:
    counted = events.with_columns(so_many=_count_within(events, "network", limit.seconds))
    return (
        counted.group_by("network")
        .agg(
            pl.lit(rule).alias("rule"),
            pl.col("event_time").min().alias("first_at"),
            pl.col("event_time").max().alias("last_at"),
            pl.col("event_time").filter(pl.col("so_many") >= limit.least).min().alias("reached_at"),
            pl.col("n").sum().alias("events"),
            pl.col("so_many").max().alias("peak"),
            pl.col("target").drop_nulls().n_unique().cast(pl.Int64).alias("targets"),
            pl.col("host").drop_nulls().n_unique().cast(pl.Int64).alias("hosts"),
        )
        .filter(pl.col("peak") >= limit.least)
    )


def _find_crowds(guesses: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """The networks that tried a user whom many others tried within the same hour."""
    guesses = guesses.join(accepted, on="network", how="anti")
    pairs = guesses.group_by("target", "network").agg(pl.col("event_time").min(), pl.lit(1, pl.Int64).alias("n"))
    pairs = pairs.with_columns(so_many=_count_within(pairs, "target", SPREAD_GUESSING.seconds))
    hour = pl.duration(seconds=SPREAD_GUESSING.seconds)
    # Each pair with those of its user that came within the hour after it, itself among them.
    crowds = (
        pairs.filter(pl.col("so_many") >= SPREAD_GUESSING.least)
        .select("target", reached_at="event_time", crowd="so_many")
        .unique()
        .join(pairs.select("target", "network", "event_time"), on="target")
        .filter(pl.col("event_time") <= pl.col("reached_at"), pl.col("reached_at") <= pl.col("event_time") + hour)
        .group_by("target", "network")
        .agg(pl.col("reached_at").min(), pl.col("crowd").max())
    )
    return (
        guesses.join(crowds, on=["target", "network"])
        .group_by("network")
        .agg(
            pl.lit("spread_guessing").alias("rule"),
            pl.col("event_time").min().alias("first_at"),
            pl.col("event_time").max().alias("last_at"),
            pl.col("reached_at").min(),
            pl.col("n").sum().alias("events"),
            pl.col("crowd").max().alias("peak"),
            pl.col("target").n_unique().cast(pl.Int64).alias("targets"),
            pl.col("host").drop_nulls().n_unique().cast(pl.Int64).alias("hosts"),
        )
    )


def _count_within(events: pl.DataFrame, key: str, seconds: int) -> pl.Series:
    """Sums `n` for each row: of its key's rows up to its time, and at most `seconds` before it.

    All keys lie one after the other on one line, so that two searches in it count for all rows at once.
    """
    micros = events["event_time"].dt.epoch("us").to_numpy()
    group = events[key].rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
    place = group * _TWO_DAYS + (micros - (micros.min() if len(micros) else 0))
    order = np.argsort(place, kind="stable")
    sums = np.concatenate([[0], np.cumsum(events["n"].to_numpy()[order])])
    upto = np.searchsorted(place, place, side="right", sorter=order)
    before = np.searchsorted(place, place - seconds * 1_000_000, side="left", sorter=order)
    return pl.Series(sums[upto] - sums[before], dtype=pl.Int64)
