"""The features: what a model is told of a transaction. One list, by which training and scoring are the same.

Each is one SQL expression that Spark (on a stream, in real-time mode too) and DuckDB read alike; DuckDB needs
`DUCKDB_FUNCTIONS` first. Its columns are those of a transaction as in `silver.transactions` and, with `CARD_PREFIX`
before their names, those of the card's row of `gold.card_features`: all null where the card has no row; and
`FRAUD_DEVICES`. What is not known is null, never a number that stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

CARD_PREFIX = "card_"
"""What the names of columns of `gold.card_features` begin with in an expression."""

FRAUD_DEVICES = "fraud_devices"
"""The column of `platform.fraud_serving` with a number of reported cards for each device that has any; null: not known.

The transaction's own device is all that an expression asks it for.
"""

PROFILE_DAYS = 28
"""Days before the current one that make a card's profile: whole weeks, for people pay otherwise at weekends."""

FEATURES_LAG = timedelta(seconds=40)
"""How old what is known of a card is when a payment is scored: it passes two streams, a refresh, half a batch.

Training looks at a transaction as it was scored. With a shorter lag a model would lean on payments that a score has
not seen yet, and find less in service than in its tests.
"""


@dataclass(frozen=True)
class Feature:
    """One feature. A `number` is a double or null; a `category` a text or null, of which new values may come any day.

    `words` complete "This was suspicious because ...", for people who have never heard of models.
    """

    name: str
    kind: Literal["number", "category"]
    words: str
    serving_sql: str


_AMOUNT = "CAST(amount AS DOUBLE)"


def _of_currency(column: str) -> str:
    """SQL: the value of the transaction's currency in a map of `gold.card_features`; null where it has none."""
    return f"CASE WHEN currency IS NOT NULL THEN try_element_at({CARD_PREFIX}{column}, currency) END"


def _ln_ratio(part: str, whole: str) -> str:
    """SQL: 0 where both are equal, and as far above 0 for twice as much as below 0 for half as much."""
    return f"CASE WHEN ({part}) > 0 AND ({whole}) > 0 THEN ln(({part}) / ({whole})) END"


def _is_new(value: str, known: str, condition: str) -> str:
    """SQL: 1 where a value is not in a list of `gold.card_features`, 0 where it is, null where either is not known."""
    is_known = f"array_contains({CARD_PREFIX}{known}, {value})"
    return f"CASE WHEN {condition} AND {value} IS NOT NULL THEN CAST(NOT {is_known} AS DOUBLE) END"


_HAS_OWN_DEVICE = "channel IN ('online', 'recurring')"


def _count_reported_cards() -> str:
    """SQL: how many cards that the device is linked to were reported; 0 for a device of which nothing is known."""
    known = f"device IS NOT NULL AND {FRAUD_DEVICES} IS NOT NULL"
    found = f"CAST(try_element_at({FRAUD_DEVICES}, device) AS DOUBLE)"
    return f"CASE WHEN {_HAS_OWN_DEVICE} AND {known} THEN coalesce({found}, CAST(0 AS DOUBLE)) END"


def _count(column: str) -> str:
    return f"CAST({CARD_PREFIX}{column} AS DOUBLE)"


_USUAL_AMOUNT = _of_currency("usual_amounts")
_MICROS_OF_DAY, _MICROS_OF_HOUR = 86_400_000_000, 3_600_000_000

FEATURES = (
    Feature("ln_amount", "number", "amounts like this one are fraud more often than others",
            f"CASE WHEN amount > 0 THEN ln({_AMOUNT}) END"),
    Feature("amount_to_usual", "number", "the amount is far from what the card usually pays in this currency",
            _ln_ratio(_AMOUNT, _USUAL_AMOUNT)),
    Feature("refund_to_usual", "number", "what is given back is much for what the card usually pays",
            f"CASE WHEN kind = 'refund' THEN {_ln_ratio(_AMOUNT, _USUAL_AMOUNT)} END"),
    Feature("amount_to_hour", "number", "the amount is far from what the card has paid within the last hour",
            _ln_ratio(_AMOUNT, _of_currency("hour_mean_amounts"))),
    Feature("country_is_new", "number", f"the card has not paid in this country in the last {PROFILE_DAYS} days",
            _is_new("country", "countries", "TRUE")),
    Feature("device_is_new", "number", f"the card has not been used with this device in the last {PROFILE_DAYS} days",
            _is_new("device", "devices", _HAS_OWN_DEVICE)),
    Feature("device_fraud_cards", "number", "cards that were used with this device were reported as fraud",
            _count_reported_cards()),
    Feature("recent_payments", "number", "the card has paid several times within ten minutes",
            _count("recent_payments")),
    Feature("recent_countries", "number", "the card has paid in several countries within ten minutes",
            _count("recent_countries")),
    Feature("recent_merchants", "number", "the card has paid several merchants within ten minutes",
            _count("recent_merchants")),
    Feature("hour_payments", "number", "the card has paid often within the last hour", _count("hour_payments")),
    Feature("hour_amount_to_usual", "number", "the card has paid much within the last hour, for what it usually pays",
            _ln_ratio(_of_currency("hour_amounts"), _USUAL_AMOUNT)),
    Feature("known_days", "number", f"it matters on how many of the last {PROFILE_DAYS} days the card has paid",
            _count("known_days")),
    Feature("hour_of_day", "number", "fraud is frequent at this time of day (UTC)",
            f"CAST(floor(pmod(unix_micros(event_time), {_MICROS_OF_DAY}) / {_MICROS_OF_HOUR}) AS DOUBLE)"),
    Feature("kind", "category", "transactions of this kind are fraud more often than others", "kind"),
    Feature("channel", "category", "transactions made in this way are fraud more often than others", "channel"),
    Feature("merchant_category", "category", "fraud is frequent at merchants of this category", "merchant_category"),
    Feature("currency", "category", "transactions in this currency are fraud more often than others", "currency"),
    Feature("country", "category", "transactions in this country are fraud more often than others", "country"),
)  # fmt: skip

DUCKDB_FUNCTIONS = (
    "CREATE OR REPLACE TEMP MACRO try_element_at(held, name) AS map_extract_value(held, name)",
    "CREATE OR REPLACE TEMP MACRO unix_micros(moment) AS epoch_us(moment)",
    "CREATE OR REPLACE TEMP MACRO pmod(number, of) AS ((number % of) + of) % of",
)
"""What a DuckDB connection is told once, so that it reads the expressions as Spark does."""
