"""Stream `revenue_by_category`: purchases by sliding minute and category, visible while a window is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.rules import SUM_OF_REVENUE, events_in_windows
from platform_assets.streaming.specs import ResultSpan, StreamSpec, TableSource, in_words
from platform_assets.streams.events import EVENTS
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=1)
SLIDE = timedelta(seconds=30)

REVENUE_BY_CATEGORY = TableSpec(
    name="gold.revenue_by_category",
    description="Revenue by sliding window (1 minute, every 30 seconds) and category.",
    grain="window x category with at least one purchase",
    key=("window_start", "window_end", "category"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("category", "string", "Product category; null where the shop sent none"),
        Column("total_revenue", "double", "Sum of revenue, summed as decimal(18,2)"),
        Column("purchase_count", "bigint", "Purchase events"),
        Column("avg_order_value", "double", "total_revenue / purchase_count"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def aggregate_revenue(events: DataFrame) -> DataFrame:
    """Revenue of each window and category.

    Takes `event_type`, `event_time`, `category`, `revenue`, on a stream or on a batch; returns rows of
    `REVENUE_BY_CATEGORY`. Money is summed as decimal, so that the result does not depend on the order of rows;
    revenue beyond that type counts as 0 rather than failing the stream.
    """
    from pyspark.sql import functions as F

    money = F.coalesce(F.sum(F.col("revenue").try_cast("decimal(18,2)")).cast("double"), F.lit(0.0))
    return (
        events.where(F.col("event_type") == "purchase")
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "category")
        .agg(money.alias("total_revenue"), F.count("*").alias("purchase_count"))
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "category",
            "total_revenue",
            "purchase_count",
            (F.col("total_revenue") / F.col("purchase_count")).alias("avg_order_value"),
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, category, coalesce(CAST({SUM_OF_REVENUE} AS DOUBLE), 0.0) AS total_revenue,
           count(*) AS purchase_count, total_revenue / purchase_count AS avg_order_value
    FROM ({events_in_windows(WINDOW, SLIDE, "purchase")}) GROUP BY window_start, window_end, category"""

STREAM = StreamSpec(
    name="revenue_by_category",
    source=TableSource(
        table=EVENTS,
        columns=("event_type", "event_time", "category", "revenue"),
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
