"""gold.session_report once more: sessions of a day by the device and country of their first event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from platform_assets.checks.recomputed.money import add_money, read_amounts
from platform_assets.checks.recomputed.percentiles import exact_percentiles
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, add_up, collect, split_rows
from platform_assets.streams.sessions import SESSIONS

# Some 100 bytes are held for each distinct user of a group.
_SESSIONS_OF_ONE_PORTION = 2_000_000

_GROUP = ["device_type", "country"]


def recompute_session_report(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The groups of the portion (by country); all that is held of sessions is counted in portions of its own."""
    snapshot = sources[SESSIONS.name]
    sessions = snapshot.of_day(day).filter(portion.holds("country"))
    micros = pl.col("session_end").dt.epoch("us") - pl.col("session_start").dt.epoch("us")
    count = pl.len().cast(pl.Int64)
    bounced, converted = (pl.col("event_count") == 1).sum(), (pl.col("purchase_count") > 0).sum()
    sums = collect(
        sessions.group_by(_GROUP).agg(
            sessions=count,
            bounced_sessions=bounced.cast(pl.Int64),
            converted_sessions=converted.cast(pl.Int64),
            purchases_without_amount=pl.col("purchases_without_amount").fill_null(0).sum(),
            micros=micros.sum(),
            events=pl.col("event_count").sum(),
            products=pl.col("unique_products").sum(),
        )
    )
    users = add_up(
        (
            sessions.filter(own.holds("user_id")).select(*_GROUP, "user_id").unique().group_by(_GROUP).agg(users=count)
            for own in split_rows(snapshot.count_of_day(day), _SESSIONS_OF_ONE_PORTION)
        ),
        _GROUP,
    )
    shares = {"p50_duration_seconds": 0.5, "p90_duration_seconds": 0.9}
    lengths = exact_percentiles(sessions, _GROUP, "duration_seconds", shares)
    sessions_each = pl.col("sessions")
    rows = add_money(sums.lazy(), read_amounts(sessions, _GROUP), _GROUP, "purchases_without_amount")
    return (
        rows.join(users.lazy(), on=_GROUP, nulls_equal=True)
        .join(lengths.lazy(), on=_GROUP, nulls_equal=True)
        .with_columns(
            report_date=pl.lit(day),
            bounce_rate=pl.col("bounced_sessions") / sessions_each,
            conversion_rate=pl.col("converted_sessions") / sessions_each,
            avg_duration_seconds=pl.col("micros") / sessions_each / 1_000_000,
            avg_events=pl.col("events") / sessions_each,
            avg_products=pl.col("products") / sessions_each,
        )
    )
