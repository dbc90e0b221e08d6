"""Exact percentiles of any number of values in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from platform_assets.checks.recomputed.snapshots import collect


def exact_percentiles(
    rows: pl.LazyFrame, keys: list[str], column: str, shares: Mapping[str, float], bucket: float = 1.0
) -> pl.DataFrame:
    """The percentiles of `column` for each value of `keys`, interpolated linearly; `shares` by the results' names.

    Reads `rows` twice: first it counts the values by buckets of this width, then it takes the distinct values of those
    buckets which hold the places asked for. So what is held follows the buckets, not the rows.
    """
    bucketed = rows.select(*keys, column).with_columns((pl.col(column) / bucket).floor().alias("bucket"))
    counted = collect(bucketed.group_by(*keys, "bucket").agg(pl.len().cast(pl.Int64).alias("n"))).sort(*keys, "bucket")
    total = pl.col("n").sum().over(keys).alias("total")
    buckets = counted.with_columns(total, (pl.col("n").cum_sum().over(keys) - pl.col("n")).alias("before"))
    places = [place for share in shares.values() for place in _places(share)]
    wanted = [(pl.col("before") <= place) & (place < pl.col("before") + pl.col("n")) for place in places]
    buckets = buckets.filter(pl.any_horizontal(wanted)).drop("n")
    values = collect(
        bucketed.join(buckets.lazy(), on=[*keys, "bucket"], how="inner", nulls_equal=True)
        .group_by(*keys, "bucket", "total", "before", column)
        .agg(pl.len().cast(pl.Int64).alias("n"))
    ).sort(*keys, column)
    first = pl.col("before") + pl.col("n").cum_sum().over([*keys, "bucket"]) - pl.col("n")
    return (
        values.with_columns(first.alias("first"))
        .group_by(*keys, maintain_order=True)
        .agg(**{name: _interpolate(column, share) for name, share in shares.items()})
    )


def _places(share: float) -> tuple[pl.Expr, pl.Expr]:
    """The two values, counted from 0, between which the percentile lies."""
    place = (pl.col("total") - 1) * share
    return place.floor(), place.ceil()


def _interpolate(column: str, share: float) -> pl.Expr:
    low, high = (
        pl.col(column).filter((pl.col("first") <= place) & (place < pl.col("first") + pl.col("n"))).first()
        for place in _places(share)
    )
    place = (pl.col("total").first() - 1) * share
    return low + (high - low) * (place - place.floor())
