"""gold.customer_360 once more: each customer, from all of his days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from platform_assets.checks.recomputed.customer_days import (
    ACTION,
    actions_as_text,
    counts_as_text,
    newest_actions,
)
from platform_assets.checks.recomputed.json_objects import explode_counts, explode_objects, list_of
from platform_assets.checks.recomputed.money import add_money, read_amounts
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE


def recompute_customers(sources: Mapping[str, Snapshot], day: date | None, portion: Portion) -> pl.LazyFrame:
    """The users of the portion. The table is of all days: `day` is None."""
    days = sources[CUSTOMER_DAYS_TABLE.name].all_rows().filter(portion.holds("user_id"))
    own = days.group_by("user_id").agg(
        first_seen_at=pl.col("first_event_at").min(),
        last_seen_at=pl.col("last_event_at").max(),
        last_purchase_at=pl.col("last_purchase_at").max(),
        purchases=pl.col("purchases").sum(),
        purchases_without_amount=pl.col("purchases_without_amount").fill_null(0).sum(),
        events=pl.col("events").sum(),
        sessions=pl.col("sessions").sum(),
    )
    newest = collect(newest_actions(explode_objects(days.select("user_id", "cart_actions"), "cart_actions", ACTION)))
    carts = (
        newest.lazy()
        .filter("open")
        .group_by("user_id")
        .agg(open_cart=list_of("key"), open_cart_products=pl.len().cast(pl.Int64))
    )
    parts = [_last_sessions(days), carts, actions_as_text(newest.lazy())]
    for name, favourite in (("category_events", "favourite_category"), ("device_events", "favourite_device")):
        entries = explode_counts(days.select("user_id", name), name)
        counts = collect(entries.group_by("user_id", "key").agg(n=pl.col("n").sum()).filter(pl.col("n") > 0)).lazy()
        first = counts.sort(["n", "key"], descending=[True, False]).unique("user_id", keep="first", maintain_order=True)
        parts += [counts_as_text(counts, name), first.select("user_id", pl.col("key").alias(favourite))]
    sums = read_amounts(days, ["user_id"])
    rows = add_money(collect(own).lazy(), sums, ["user_id"], "purchases_without_amount")
    for part in parts:
        rows = rows.join(collect(part).lazy(), on="user_id", how="left")
    known = pl.col("purchases") - pl.col("purchases_without_amount")
    return rows.with_columns(
        pl.when(known > 0).then(pl.col("total_revenue") / known).alias("avg_order_value"),
        pl.col("category_events", "device_events", "cart_actions").fill_null("{}"),
        pl.col("open_cart").fill_null("[]"),
        pl.col("open_cart_products").fill_null(0),
    )


def _last_sessions(days: pl.LazyFrame) -> pl.LazyFrame:
    """The session that ended last; of two that ended together, the longer one: the other is what it grew out of."""
    ends = days.filter(pl.col("last_session_end").is_not_null())
    longest = ends.group_by("user_id", "last_session_end").agg(pl.col("last_session_start").min())
    return longest.sort("last_session_end").unique("user_id", keep="last", maintain_order=True)
