"""What `gold.card_features` would have said of a card at each of its transactions, in SQL (DuckDB).

The table has the present only. Here the same columns are computed for moments that are over, from the transactions
before each and from the profile of its day: nothing that came after a transaction is in what is known at it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from platform_assets.delta_reader import as_timestamptz
from platform_assets.fraud.features import CARD_PREFIX, FEATURES, FEATURES_LAG, FRAUD_DEVICES
from platform_assets.streaming.moments import MICROSECOND
from platform_assets.streaming.result_span import in_words
from platform_assets.streams import spend_by_card, velocity

LONGEST_RECENT = max(velocity.WINDOW, spend_by_card.WINDOW)
"""How long before the moment of which it speaks a recent payment may be."""

# The columns of a transaction that are read: those of the expressions, of its row, and of what is counted.
_COLUMNS = (
    "transaction_id", "event_time", "card_id", "kind", "merchant_id", "merchant_category", "amount", "currency",
    "country", "channel", "device", "is_fraud",
)  # fmt: skip


def build_features_sql(first: datetime, end: datetime) -> str:
    """A query for the transactions with `first` <= `as_of` < `end` (one UTC day), and their features by name.

    `as_of` is the time of a transaction less `FEATURES_LAG`. It reads the relations `transactions` (rows of
    `silver.transactions`), `card_profiles` and `fraud_devices` (of that day, as `build_profiles_sql` and
    `build_fraud_devices_sql` give them).
    """
    features = ", ".join(f'{feature.serving_sql} AS "{feature.name}"' for feature in FEATURES)
    return f"""
WITH near AS (
  SELECT {", ".join(_COLUMNS)}, event_time - {_interval(FEATURES_LAG)} AS as_of FROM transactions
  WHERE event_time >= {as_timestamptz(first + FEATURES_LAG - LONGEST_RECENT)}
    AND event_time < {as_timestamptz(end + FEATURES_LAG)}
), counted AS ({_COUNTED_SQL}
), chosen AS (
  SELECT * FROM counted WHERE as_of >= {as_timestamptz(first)}
), known AS ({_KNOWN_SQL}
)
SELECT transaction_id, event_time, card_id, {features}, is_fraud FROM known"""


def _interval(length: timedelta) -> str:
    return f"INTERVAL '{in_words(length)}'"


def _frame(partition: str, size: timedelta, slide: timedelta) -> str:
    """SQL: the rows of a partition in the window that ends first after `as_of`, those before `as_of`."""
    start = f"(time_bucket({_interval(slide)}, as_of) + {_interval(slide)} - {_interval(size)})"
    return (
        f"PARTITION BY {partition} ORDER BY event_time "
        f"RANGE BETWEEN (event_time - {start}) PRECEDING AND {_interval(FEATURES_LAG + MICROSECOND)} PRECEDING"
    )


# Frames, not a join of transactions with transactions: a card with thousands a day would have millions of pairs.
_IS_PAYMENT = "FILTER (WHERE kind = 'payment')"
_COUNTED_SQL = f"""
  SELECT *,
    count(*) {_IS_PAYMENT} OVER minutes AS minutes_payments,
    count(DISTINCT country) {_IS_PAYMENT} OVER minutes AS minutes_countries,
    count(DISTINCT merchant_id) {_IS_PAYMENT} OVER minutes AS minutes_merchants,
    count(*) {_IS_PAYMENT} OVER this_hour AS hour_payments,
    count(*) {_IS_PAYMENT} OVER of_currency AS currency_payments,
    sum(amount) {_IS_PAYMENT} OVER of_currency AS currency_amount
  FROM near
  WINDOW minutes AS ({_frame("card_id", velocity.WINDOW, velocity.SLIDE)}),
         this_hour AS ({_frame("card_id", spend_by_card.WINDOW, spend_by_card.SLIDE)}),
         of_currency AS ({_frame("card_id, currency", spend_by_card.WINDOW, spend_by_card.SLIDE)})"""

# As in `gold.card_features`: no row of a stream's table is null, and of the maps only what the expressions ask for.
_IS_FAST = f"minutes_payments >= {velocity.LEAST_PAYMENTS}"
_AMOUNT = "CAST(currency_amount AS DOUBLE)"
_KNOWN_SQL = f"""
  SELECT chosen.*,
    p.known_days AS {CARD_PREFIX}known_days, p.usual_amounts AS {CARD_PREFIX}usual_amounts,
    p.countries AS {CARD_PREFIX}countries, p.devices AS {CARD_PREFIX}devices,
    CASE WHEN {_IS_FAST} THEN minutes_payments END AS {CARD_PREFIX}recent_payments,
    CASE WHEN {_IS_FAST} THEN minutes_countries END AS {CARD_PREFIX}recent_countries,
    CASE WHEN {_IS_FAST} THEN minutes_merchants END AS {CARD_PREFIX}recent_merchants,
    nullif(hour_payments, 0) AS {CARD_PREFIX}hour_payments,
    CASE WHEN currency_payments > 0 THEN map([currency], [{_AMOUNT}]) END AS {CARD_PREFIX}hour_amounts,
    CASE WHEN currency_payments > 0 THEN map([currency], [{_AMOUNT} / currency_payments]) END
      AS {CARD_PREFIX}hour_mean_amounts,
    CASE WHEN d.cards IS NULL THEN MAP {{}} ELSE map([device], [d.cards]) END AS {FRAUD_DEVICES}
  FROM chosen LEFT JOIN card_profiles p USING (card_id) LEFT JOIN fraud_devices d USING (device)"""
