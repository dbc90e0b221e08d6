"""Stream `card_days`: what each card has paid on a UTC day, where, and with which devices of its owner."""

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

DAY = timedelta(days=1)
# In a shop the device is the shop's terminal, which says nothing about the card.
OWN_DEVICE_CHANNELS = ("online", "recurring")

CARD_DAYS = TableSpec(
    name="gold.card_days",
    description="Payments of a card on a UTC day, by currency: how many, how much, where and with which devices.",
    grain="UTC day x card x currency with at least one payment",
    key=("window_start", "window_end", "card_id", "currency"),
    columns=(
        Column("window_start", "timestamp", "First moment of the day, UTC"),
        Column("window_end", "timestamp", "First moment after the day, UTC"),
        Column("card_id", "string", "Which card"),
        Column("currency", "string", "Currency of the amounts"),
        Column("payment_count", "bigint", "Payments"),
        Column("total_amount", "decimal(28,2)", "Sum of the payments; refunds and reversals are not taken off"),
        Column("countries", "array<string>", "Distinct countries in which it paid, those that are known, in order"),
        Column("devices", "array<string>", "Distinct devices of payments by the channels "
               f"{' and '.join(OWN_DEVICE_CHANNELS)}, those that are known, in order"),
    ),
    statistics_columns=("window_start", "window_end"),
)  # fmt: skip


def sum_days(transactions: DataFrame) -> DataFrame:
    """Payments of each day, card and currency.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `CARD_DAYS`. What is given back
    is left out, as in `gold.spend_by_card`. Payments are never taken away, so a row only ever grows.
    """
    from pyspark.sql import functions as F

    own_device = F.when(F.col("channel").isin(*OWN_DEVICE_CHANNELS), F.col("device"))
    return (
        transactions.where(F.col("kind") == "payment")
        .groupBy(F.window("event_time", in_words(DAY)).alias("time_window"), "card_id", "currency")
        .agg(
            F.count("*").alias("payment_count"),
            F.sum("amount").alias("total_amount"),
            F.sort_array(F.collect_set("country")).alias("countries"),
            F.sort_array(F.collect_set(own_device)).alias("devices"),
        )
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "card_id",
            "currency",
            "payment_count",
            "total_amount",
            "countries",
            "devices",
        )
    )


_CHANNELS = ", ".join(f"'{channel}'" for channel in OWN_DEVICE_CHANNELS)
# The rows once more, for the check `parity`. DuckDB makes null of a list without values.
RULE = f"""
    SELECT window_start, window_end, card_id, currency, count(*) AS payment_count,
           CAST(sum(amount) AS DECIMAL(28, 2)) AS total_amount,
           coalesce(list_sort(list(DISTINCT country) FILTER (WHERE country IS NOT NULL)), []) AS countries,
           coalesce(list_sort(list(DISTINCT device)
             FILTER (WHERE device IS NOT NULL AND channel IN ({_CHANNELS}))), []) AS devices
    FROM ({events_in_windows(DAY, DAY, "kind", "payment")})
    GROUP BY window_start, window_end, card_id, currency"""

STREAM = TableStream(
    name="card_days",
    source=TableSource(
        table=TRANSACTIONS,
        columns=("kind", "event_time", "card_id", "amount", "currency", "country", "channel", "device"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=("payment",),
    ),
    tables=(CARD_DAYS,),
    # What reads it wants days that are over, and each upsert writes the files of the open day anew: each second would
    # write a table of a million rows 86,400 times. A prime, so that queries do not trigger at the same moment.
    trigger_seconds=61.0,
    transform=sum_days,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=DAY, window=(DAY, DAY)),
)
