"""gold.merchant_category_report once more: card payments of a day by category of merchant and currency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from platform_assets.checks.recomputed.percentiles import exact_percentiles
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, add_up, collect, split_rows
from platform_assets.topics.transactions import TRANSACTIONS

# Some 100 bytes are held for each distinct card, customer or merchant of a group.
_TRANSACTIONS_OF_ONE_PORTION = 2_000_000

_GROUP = ["merchant_category", "currency"]
_MONEY = pl.Decimal(28, 2)


def recompute_merchant_categories(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The groups of the portion (by category); what is distinct is counted in portions of its own."""
    snapshot = sources[TRANSACTIONS.name]
    moved = snapshot.of_day(day).filter(portion.holds("merchant_category"))
    rows = moved.group_by(_GROUP).agg(
        payments=_count("payment"),
        refunds=_count("refund"),
        reversals=_count("reversal"),
        total_amount=_sum("payment"),
        refunded_amount=_sum("refund"),
        reversed_amount=_sum("reversal"),
    )
    paid = moved.filter(pl.col("kind") == "payment").with_columns(size=pl.col("amount").cast(pl.Float64))
    known = paid.filter(pl.col("is_anonymous").fill_null(value=False).not_())
    whose = {"customers": (known, "customer_id"), "cards": (paid, "card_id")}
    whose |= {"merchants": (paid, "merchant_id"), "countries": (paid, "country")}
    portions = split_rows(snapshot.count_of_day(day), _TRANSACTIONS_OF_ONE_PORTION)
    rows = collect(rows).lazy()
    for name, (counted, column) in whose.items():
        own = counted.filter(pl.col(column).is_not_null()).select(*_GROUP, column)
        distinct = add_up(
            (
                own.filter(part.holds(column)).unique().group_by(_GROUP).agg(pl.len().cast(pl.Int64).alias(name))
                for part in portions
            ),
            _GROUP,
        )
        rows = rows.join(distinct.lazy(), on=_GROUP, how="left", nulls_equal=True)
    sizes = exact_percentiles(paid, _GROUP, "size", {"p50_amount": 0.5, "p90_amount": 0.9})
    payments = pl.when(pl.col("payments") > 0).then(pl.col("payments"))
    return rows.join(sizes.lazy(), on=_GROUP, how="left", nulls_equal=True).with_columns(
        pl.col(*whose).fill_null(0),
        report_date=pl.lit(day),
        avg_amount=pl.col("total_amount").cast(pl.Float64) / payments,
        refund_share=pl.col("refunds") / payments,
    )


def _count(kind: str) -> pl.Expr:
    return (pl.col("kind") == kind).sum().cast(pl.Int64)


def _sum(kind: str) -> pl.Expr:
    return pl.col("amount").filter(pl.col("kind") == kind).sum().cast(_MONEY)
