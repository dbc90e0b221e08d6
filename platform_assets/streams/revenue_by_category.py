"""Stream `revenue_by_category`: purchases by sliding minute and category, visible while a window is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import AMOUNT, events_in_windows
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=1)
SLIDE = timedelta(seconds=30)

REVENUE_BY_CATEGORY = TableSpec(
    name="gold.revenue_by_category",
    description="Revenue by sliding window (1 minute, every 30 seconds), category and currency.",
    grain="window x category x currency with at least one purchase",
    key=("window_start", "window_end", "category", "currency"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("category", "string", "Product category; null where the shop sent none"),
        Column("total_revenue", "double", "Sum of the known amounts, as decimal(18,2); null where none is known"),
        Column("purchase_count", "bigint", "Purchase events"),
        Column("avg_order_value", "double", "total_revenue / purchases with an amount"),
        Column("currency", "string", "Currency of the amounts; null where the shop sent none"),
        Column("purchases_without_amount", "bigint", "Purchases among these whose amount is not known"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def aggregate_revenue(events: DataFrame) -> DataFrame:
    """Revenue of each window, category and currency.

    Takes `event_type`, `event_time`, `category`, `revenue`, `currency`, on a stream or on a batch; returns rows of
    `REVENUE_BY_CATEGORY`. Money is summed as decimal, so that the result does not depend on the order of rows.
    Revenue that was not sent, or is beyond that type, is not known.
    """
    from pyspark.sql import functions as F

    amount = F.col("revenue").try_cast("decimal(18,2)")
    return (
        events.where(F.col("event_type") == "purchase")
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "category", "currency")
        .agg(
            F.sum(amount).cast("double").alias("total_revenue"),
            F.count("*").alias("purchase_count"),
            F.count(amount).alias("amounts"),
        )
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "category",
            "total_revenue",
            "purchase_count",
            F.try_divide("total_revenue", "amounts").alias("avg_order_value"),
            "currency",
            (F.col("purchase_count") - F.col("amounts")).alias("purchases_without_amount"),
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, category, CAST(sum({AMOUNT}) AS DOUBLE) AS total_revenue,
           count(*) AS purchase_count, total_revenue / nullif(count({AMOUNT}), 0) AS avg_order_value, currency,
           count(*) FILTER ({AMOUNT} IS NULL) AS purchases_without_amount
    FROM ({events_in_windows(WINDOW, SLIDE, "event_type", "purchase")})
    GROUP BY window_start, window_end, category, currency"""

STREAM = TableStream(
    name="revenue_by_category",
    source=TableSource(
        table=EVENTS,
        columns=("event_type", "event_time", "category", "revenue", "currency"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=1),
        event_types=("purchase",),
    ),
    tables=(REVENUE_BY_CATEGORY,),
    # Each micro-batch costs planning, a state commit and a Delta commit, whatever its rows.
    trigger_seconds=10.0,
    transform=aggregate_revenue,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, SLIDE)),
)
