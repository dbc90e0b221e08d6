"""Amounts of money as exact decimals, and their sums by currency (see `report_sql` on what the columns mean)."""

from __future__ import annotations

import polars as pl

from platform_assets.checks.recomputed.json_objects import explode_texts, object_of
from platform_assets.checks.recomputed.snapshots import collect

# From here on decimal(18,2) does not hold an amount.
_TOO_LARGE = 1e16

_BY_CURRENCY = "revenue_by_currency"


def exact_amount(column: str) -> pl.Expr:
    """One event's amount (double) in cents by way of its text, half up: 1.005 is 1.01.

    Null where decimal(18,2) does not hold it: from 10^16 on, NaN and the infinities.
    """
    fits = pl.col(column).is_finite() & (pl.col(column).abs() < _TOO_LARGE)
    return _to_cents(pl.when(fits).then(pl.col(column)))


def exact_sum(column: str) -> pl.Expr:
    """A sum of amounts (double) in cents, the same way; it may be larger. Raises where 36 digits do not hold it."""
    small = pl.col(column).abs() < _TOO_LARGE
    large = pl.when(~small).then(pl.col(column)).cast(pl.String).cast(pl.Decimal(38, 2))  # no digit behind the point
    return pl.coalesce(_to_cents(pl.when(small).then(pl.col(column))), large)


def _to_cents(amount: pl.Expr) -> pl.Expr:
    """Polars makes decimals of texts half to even: so all 20 digits that a double can have here, then rounded."""
    text = amount.cast(pl.String).cast(pl.Decimal(38, 20))
    return text.round(2, mode="half_away_from_zero").cast(pl.Decimal(38, 2))


def read_amounts(rows: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """`keys`, `currency` and `cents` of rows with `revenue_by_currency`; of older rows, without it, `total_revenue`."""
    mapped = explode_texts(rows.select(*keys, "revenue_by_currency").drop_nulls("revenue_by_currency"), _BY_CURRENCY)
    older = rows.filter(pl.col("revenue_by_currency").is_null())
    parts = [
        mapped.select(*keys, currency="key", cents=pl.col("text").cast(pl.Decimal(38, 2))),
        older.select(*keys, currency=pl.lit(""), cents=exact_sum("total_revenue")),
    ]
    return pl.concat(parts)


def add_money(
    rows: pl.LazyFrame, amounts: pl.LazyFrame, keys: list[str], without_amount: str, of: str = "total"
) -> pl.LazyFrame:
    """The rows with the sums of `amounts` (`keys`, `currency` or null, `cents`): `<of>_revenue` and what goes with it.

    `without_amount` is the rows' column of purchases whose amount is not known.
    """
    total = f"{of}_revenue"
    by_currency = _BY_CURRENCY if of == "total" else f"{of}_{_BY_CURRENCY}"
    of_one = amounts.with_columns(pl.col("currency").fill_null("")).group_by(*keys, "currency")
    sums = of_one.agg(pl.col("cents").sum()).filter(pl.col("cents") != 0)
    text = pl.concat_str(pl.lit('"'), pl.col("cents").cast(pl.String), pl.lit('"'))
    joined = sums.group_by(keys).agg(
        object_of("currency", text).alias(by_currency),
        pl.when(pl.len() == 1).then(pl.col("cents").first()).cast(pl.Float64).alias(total),
        pl.when(pl.len() == 1).then(pl.col("currency").first()).replace("", None).alias("currency"),
    )
    nothing = pl.col(by_currency).is_null() & (pl.col(without_amount) == 0)
    return rows.join(collect(joined).lazy(), on=keys, how="left", nulls_equal=True).with_columns(
        pl.when(nothing).then(0.0).otherwise(pl.col(total)).alias(total), pl.col(by_currency).fill_null("{}")
    )
