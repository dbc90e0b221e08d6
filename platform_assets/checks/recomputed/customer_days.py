"""gold.customer_days once more: what each customer did on a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from platform_assets.checks.recomputed.json_objects import object_of
from platform_assets.checks.recomputed.money import add_money, exact_amount
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports.customer_days import CART_TYPES
from platform_assets.streams.sessions import SESSIONS
from platform_assets.topics.events import EVENTS

# An action on a product in the cart, newer ones after older ones: by time, then as the topic has them.
ACTION = {"at": pl.Int64, "partition": pl.Int32, "offset": pl.Int64, "open": pl.Boolean}


def newest_actions(actions: pl.LazyFrame) -> pl.LazyFrame:
    """The newest row of each `user_id` and product (`key`) of rows with the fields of `ACTION`."""
    return actions.sort(*ACTION).unique(["user_id", "key"], keep="last", maintain_order=True)


def actions_as_text(newest: pl.LazyFrame) -> pl.LazyFrame:
    """The column `cart_actions`, one row a user."""
    return newest.group_by("user_id").agg(cart_actions=object_of("key", pl.struct(*ACTION).struct.json_encode()))


def counts_as_text(counts: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The columns `key` and `n` as one column of this name, one row a user."""
    return counts.group_by("user_id").agg(object_of("key", pl.col("n").cast(pl.String)).alias(name))


def recompute_customer_days(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The users of the portion."""
    events = (
        sources[EVENTS.name]
        .of_day(day)
        .filter(
            pl.col("event_time").dt.date() == day,
            pl.col("is_anonymous").fill_null(value=False).not_(),
            portion.holds("user_id"),
        )
    )
    is_purchase, count = pl.col("event_type") == "purchase", pl.len().cast(pl.Int64)
    own = events.group_by("user_id").agg(
        first_event_at=pl.col("event_time").min(),
        last_event_at=pl.col("event_time").max(),
        events=count,
        purchases=is_purchase.sum().cast(pl.Int64),
        last_purchase_at=pl.col("event_time").filter(is_purchase).max(),
        purchases_without_amount=exact_amount("revenue").filter(is_purchase).null_count().cast(pl.Int64),
    )
    amounts = events.filter(is_purchase).select("user_id", "currency", cents=exact_amount("revenue"))
    cart = events.filter(pl.col("event_type").is_in(CART_TYPES), pl.col("product_id").is_not_null()).select(
        "user_id",
        key="product_id",
        at=pl.col("event_time").dt.epoch("us"),
        partition="kafka_partition",
        offset="kafka_offset",
        open=pl.col("event_type") == "add_to_cart",
    )
    parts = [_visits(sources[SESSIONS.name], day, portion), actions_as_text(newest_actions(cart))]
    for name, column in (("category_events", "category"), ("device_events", "device_type")):
        known = events.filter(pl.col(column).is_not_null()).group_by("user_id", key=column).agg(n=count)
        parts.append(counts_as_text(known, name))
    rows = add_money(collect(own).lazy(), amounts, ["user_id"], "purchases_without_amount")
    for part in parts:
        rows = rows.join(collect(part).lazy(), on="user_id", how="left")
    return rows.with_columns(
        pl.lit(day).alias("report_date"),
        pl.col("sessions").fill_null(0),
        pl.col("category_events", "device_events", "cart_actions").fill_null("{}"),
    )


def _visits(sessions: Snapshot, day: date, portion: Portion) -> pl.LazyFrame:
    return (
        sessions.of_day(day)
        .filter(portion.holds("user_id"))
        .group_by("user_id")
        .agg(
            sessions=pl.len().cast(pl.Int64),
            last_session_start=pl.col("session_start").max(),
            last_session_end=pl.col("session_end").max_by("session_start"),
        )
    )
