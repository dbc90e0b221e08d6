"""gold.product_affinity once more: what was bought together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, add_up, split_rows
from platform_assets.reports.product_affinity import MAX_PRODUCTS_OF_ONE_BASKET
from platform_assets.topics.events import EVENTS

# Some 100 bytes are held for each purchase; one event in thirty is one.
_EVENTS_OF_ONE_PORTION = 20_000_000


def recompute_affinity(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The pairs whose first product is in the portion. Baskets are looked at in portions of users."""
    users = split_rows(sources[EVENTS.name].count_of_day(day), _EVENTS_OF_ONE_PORTION)
    baskets = [_baskets_of(sources[EVENTS.name], day, own) for own in users]
    count = pl.len().cast(pl.Int64)
    # With a column to group by: the sum of the portions' sums then needs no case of its own.
    all_baskets = add_up(
        (own.select("report_date", "user_id").unique().group_by("report_date").agg(baskets=count) for own in baskets),
        ["report_date"],
    )
    products = add_up((own.group_by("product_id").agg(n=count) for own in baskets), ["product_id"])
    shared = add_up(
        (_pair(own, portion).agg(shared_baskets=count) for own in baskets), ["product_id", "other_product_id"]
    )
    firsts = products.select("product_id", product_baskets="n").lazy()
    others = products.select(other_product_id="product_id", other_baskets="n").lazy()
    both, first, other, whole = (
        pl.col(name) for name in ("shared_baskets", "product_baskets", "other_baskets", "baskets")
    )
    return (
        shared.lazy()
        .join(firsts, on="product_id")
        .join(others, on="other_product_id")
        .join(all_baskets.lazy(), how="cross")
        .with_columns(support=both / whole, confidence=both / first, lift=both * whole / (first * other))
    )


def _baskets_of(events: Snapshot, day: date, portion: Portion) -> pl.LazyFrame:
    """What the portion's users bought on the day, each product once; baskets that are too large are not there."""
    bought = (
        events.of_day(day)
        .filter(
            pl.col("event_type") == "purchase",
            pl.col("product_id").is_not_null(),
            pl.col("event_time").dt.date() == day,
            pl.col("is_anonymous").fill_null(value=False).not_(),
            portion.holds("user_id"),
        )
        .select(pl.lit(day).alias("report_date"), "user_id", "product_id")
        .unique()
    )
    small = bought.group_by("user_id").len().filter(pl.col("len") <= MAX_PRODUCTS_OF_ONE_BASKET)
    return bought.join(small, on="user_id", how="semi", nulls_equal=True)


def _pair(baskets: pl.LazyFrame, portion: Portion) -> pl.lazyframe.group_by.LazyGroupBy:
    others = baskets.select("user_id", pl.col("product_id").alias("other_product_id"))
    return (
        baskets.filter(portion.holds("product_id"))
        .join(others, on="user_id", nulls_equal=True)
        .filter(pl.col("product_id") != pl.col("other_product_id"))
        .group_by("product_id", "other_product_id")
    )
