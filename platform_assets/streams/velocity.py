"""Stream `velocity`: cards that pay again within ten minutes, and how far apart, visible while the window is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import events_in_windows
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=10)
SLIDE = timedelta(minutes=1)
# A lone payment has no velocity, and would have ten rows that say so. Without it a card has no row in most windows:
# only payments with another one within ten minutes make rows, at most ten each.
LEAST_PAYMENTS = 2

CARD_VELOCITY = TableSpec(
    name="gold.card_velocity",
    description=f"Cards with at least {LEAST_PAYMENTS} payments in a sliding window (10 minutes, every 1): how many, "
    "in how many countries and shops.",
    grain=f"window x card with at least {LEAST_PAYMENTS} payments",
    key=("window_start", "window_end", "card_id"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("card_id", "string", "Which card"),
        Column("payment_count", "bigint", "Payments, in any currency"),
        Column("countries", "bigint", "Distinct countries in which it paid; those that are not known count for none"),
        Column("merchants", "bigint", "Distinct merchants paid"),
        Column("currencies", "bigint", "Distinct currencies paid in"),
        Column("first_payment_at", "timestamp", "The window's first payment"),
        Column("last_payment_at", "timestamp", "The window's last payment"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def find_fast_cards(transactions: DataFrame) -> DataFrame:
    """Cards of each window with at least `LEAST_PAYMENTS` payments.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `CARD_VELOCITY`. Payments are never
    taken away, so a card that has come into a window's list stays in it.
    """
    from pyspark.sql import functions as F

    def count_distinct(name: str) -> SparkColumn:
        # Not count(distinct): Spark refuses it on a stream.
        return F.size(F.collect_set(name)).cast("bigint")

    return (
        transactions.where(F.col("kind") == "payment")
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "card_id")
        .agg(
            F.count("*").alias("payment_count"),
            count_distinct("country").alias("countries"),
            count_distinct("merchant_id").alias("merchants"),
            count_distinct("currency").alias("currencies"),
            F.min("event_time").alias("first_payment_at"),
            F.max("event_time").alias("last_payment_at"),
        )
        .where(F.col("payment_count") >= LEAST_PAYMENTS)
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "card_id",
            "payment_count",
            "countries",
            "merchants",
            "currencies",
            "first_payment_at",
            "last_payment_at",
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, card_id, count(*) AS payment_count, count(DISTINCT country) AS countries,
           count(DISTINCT merchant_id) AS merchants, count(DISTINCT currency) AS currencies,
           min(event_time) AS first_payment_at, max(event_time) AS last_payment_at
    FROM ({events_in_windows(WINDOW, SLIDE, "kind", "payment")})
    GROUP BY window_start, window_end, card_id HAVING count(*) >= {LEAST_PAYMENTS}"""

STREAM = TableStream(
    name="velocity",
    source=TableSource(
        table=TRANSACTIONS,
        columns=("kind", "event_time", "card_id", "merchant_id", "country", "currency"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=2),
        event_types=("payment",),
    ),
    tables=(CARD_VELOCITY,),
    # Its rows are what fraud rules wait for: often, and at a prime of its own.
    trigger_seconds=7.0,
    transform=find_fast_cards,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, SLIDE)),
)
