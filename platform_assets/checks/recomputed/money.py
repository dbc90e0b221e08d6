"""Amounts of money as exact decimals."""

from __future__ import annotations

import polars as pl

# From here on decimal(18,2) does not hold an amount.
_TOO_LARGE = 1e16


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


def sum_of(cents: pl.Expr) -> pl.Expr:
    """The sum of exact amounts as the reports store it: a double, 0 where there is none."""
    return cents.sum().cast(pl.Float64).fill_null(0.0)
