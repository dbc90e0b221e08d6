"""Stream `spend_by_card`: what each card has paid within an hour, visible while the hour is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import events_in_windows
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(hours=1)
SLIDE = timedelta(minutes=10)

SPEND_BY_CARD = TableSpec(
    name="gold.spend_by_card",
    description="Payments of a card in a sliding window (1 hour, every 10 minutes), by currency.",
    grain="window x card x currency with at least one payment",
    key=("window_start", "window_end", "card_id", "currency"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("card_id", "string", "Which card"),
        Column("currency", "string", "Currency of the amounts"),
        Column("total_amount", "decimal(28,2)", "Sum of the payments; refunds and reversals are not taken off"),
        Column("payment_count", "bigint", "Payments"),
        Column("largest_amount", "decimal(18,2)", "The largest payment"),
        Column("merchants", "bigint", "Distinct merchants paid"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def sum_payments(transactions: DataFrame) -> DataFrame:
    """Payments of each window, card and currency.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `SPEND_BY_CARD`. What is given back
    is left out: a card that pays much and gets it back has paid much, and a row's numbers only ever rise.
    """
    from pyspark.sql import functions as F

    return (
        transactions.where(F.col("kind") == "payment")
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "card_id", "currency")
        .agg(
            F.sum("amount").alias("total_amount"),
            F.count("*").alias("payment_count"),
            F.max("amount").alias("largest_amount"),
            # Not count(distinct): Spark refuses it on a stream.
            F.size(F.collect_set("merchant_id")).cast("bigint").alias("merchants"),
        )
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "card_id",
            "currency",
            "total_amount",
            "payment_count",
            "largest_amount",
            "merchants",
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, card_id, currency, CAST(sum(amount) AS DECIMAL(28, 2)) AS total_amount,
           count(*) AS payment_count, max(amount) AS largest_amount, count(DISTINCT merchant_id) AS merchants
    FROM ({events_in_windows(WINDOW, SLIDE, "kind", "payment")})
    GROUP BY window_start, window_end, card_id, currency"""

STREAM = TableStream(
    name="spend_by_card",
    source=TableSource(
        table=TRANSACTIONS,
        columns=("kind", "event_time", "card_id", "merchant_id", "amount", "currency"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=("payment",),
    ),
    tables=(SPEND_BY_CARD,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning.
    trigger_seconds=29.0,
    transform=sum_payments,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, SLIDE)),
)
