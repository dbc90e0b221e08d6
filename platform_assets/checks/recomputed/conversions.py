"""gold.purchase_correlations and gold.purchase_devices once more: views of products, and what they led to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from platform_assets.checks.recomputed.money import add_money, exact_amount
from platform_assets.checks.recomputed.percentiles import exact_percentiles
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports.days import DayRange
from platform_assets.streams.view_to_purchase import MAX_LAG, VIEW_TO_PURCHASE
from platform_assets.topics.events import EVENTS

_COUNT = pl.len().cast(pl.Int64)


def recompute_correlations(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The products of the portion. The shop's rate is that of all products, whatever the portion."""
    rows = _count_conversions(sources, day, portion, ["product_id"])
    views, converted = _count_shop(sources, day, portion.of)
    rate = pl.when(pl.col("views") > 0).then(pl.col("converted_views") / pl.col("views"))
    shop_rate = converted / views if views else 0.0
    lift = pl.col("view_to_purchase_rate") / shop_rate if shop_rate else pl.lit(None, pl.Float64)
    return rows.with_columns(view_to_purchase_rate=rate).with_columns(lift=lift)


def recompute_devices(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The products of the portion, by the view's device; without those that were neither viewed nor credited."""
    rows = _count_conversions(sources, day, portion, ["product_id", "device_type"])
    rate = pl.when(pl.col("views") > 0).then(pl.col("converted_views") / pl.col("views"))
    return rows.filter((pl.col("views") > 0) | (pl.col("attributed_purchases") > 0)).with_columns(
        view_to_purchase_rate=rate
    )


def bounds_of_pairs(day: date) -> tuple[datetime, datetime]:
    """The times of view of the pairs that begin or end on the day: these begin at most `MAX_LAG` before it."""
    whole = DayRange(day, day)
    return whole.start - MAX_LAG, whole.end


def _count_conversions(sources: Mapping[str, Snapshot], day: date, portion: Portion, by: list[str]) -> pl.LazyFrame:
    counted = (
        _events_of(sources, day, portion)
        .group_by(by)
        .agg(views=_is("page_view").sum().cast(pl.Int64), purchases=_is("purchase").sum().cast(pl.Int64))
    )
    pairs = _pairs_around(sources, day, portion)
    of_views = pairs.filter(_is_on("view_time", day))
    converted = of_views.select(*by, "view_event_id", "view_time").unique().group_by(by).agg(converted_views=_COUNT)
    shares = {"p50_lag_seconds": 0.5, "p90_lag_seconds": 0.9}
    lags = exact_percentiles(of_views, by, "time_to_purchase_seconds", shares)
    # A row a purchase. It is asked for twice.
    last_views = collect(
        pairs.filter(_is_on("purchase_time", day))
        .sort("view_time", "view_event_id")
        .unique(["purchase_event_id", "purchase_time", "product_id"], keep="last", maintain_order=True)
        .select(*by, "currency", "revenue")
    ).lazy()
    attributed = last_views.group_by(by).agg(
        attributed_purchases=_COUNT, attributed_without_amount=exact_amount("revenue").null_count().cast(pl.Int64)
    )
    parts = [collect(part) for part in (counted, converted, attributed)] + [lags]
    # A value of `by` has one row of each part at most: `max` takes it.
    numbers = pl.concat(parts, how="diagonal").lazy().group_by(by).agg(pl.all().max())
    whole = ["views", "purchases", "converted_views", "attributed_purchases", "attributed_without_amount"]
    numbers = numbers.with_columns(pl.lit(day).alias("report_date"), pl.col(*whole).fill_null(0))
    amounts = last_views.select(*by, "currency", cents=exact_amount("revenue"))
    return add_money(numbers, amounts, by, "attributed_without_amount", "attributed")


def _count_shop(sources: Mapping[str, Snapshot], day: date, portions: int) -> tuple[int, int]:
    """Views of all products on the day, and those of them that led to a purchase."""
    views = 0
    converted = 0
    for number in range(portions):
        portion = Portion(number, portions)
        views += int(collect(_events_of(sources, day, portion).select(_is("page_view").sum())).item())
        pairs = _pairs_around(sources, day, portion).filter(_is_on("view_time", day))
        converted += int(
            collect(pairs.select("product_id", "view_event_id", "view_time").unique().select(_COUNT)).item()
        )
    return views, converted


def _events_of(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    events = sources[EVENTS.name].of_day(day)
    return events.filter(
        pl.col("product_id").is_not_null(),
        _is("page_view") | _is("purchase"),
        _is_on("event_time", day),
        portion.holds("product_id"),
    )


def _pairs_around(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    pairs = sources[VIEW_TO_PURCHASE.name].between("view_time", *bounds_of_pairs(day))
    return pairs.filter(portion.holds("product_id"))


def _is(event_type: str) -> pl.Expr:
    return pl.col("event_type") == event_type


def _is_on(time: str, day: date) -> pl.Expr:
    return pl.col(time).dt.date() == day
