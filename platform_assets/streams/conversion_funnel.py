"""Stream `conversion_funnel`: distinct visitors, cart users and purchasers of a sliding window, exact and live."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import events_in_windows
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=5)
SLIDE = timedelta(minutes=1)

CONVERSION_FUNNEL = TableSpec(
    name="gold.conversion_funnel",
    description="Distinct users who viewed, filled a cart and bought in a sliding window (5 minutes, every minute).",
    grain="window with at least one view, cart or purchase event",
    key=("window_start", "window_end"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("unique_visitors", "bigint", "Distinct users with a page_view; exact"),
        Column("cart_users", "bigint", "Distinct users with an add_to_cart; exact"),
        Column("purchasers", "bigint", "Distinct users with a purchase; exact"),
        Column("cart_conversion_rate", "double", "cart_users / unique_visitors in percent; null without a visitor"),
        Column("purchase_conversion_rate", "double", "purchasers / cart_users in percent; null without a cart user"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def count_funnel(events: DataFrame) -> DataFrame:
    """The funnel of each window. Takes `event_type`, `event_time`, `user_id`; returns rows of `CONVERSION_FUNNEL`.

    Distinct users are held as one set a step in the window's state row, for Spark refuses count(distinct) on a stream
    and chained aggregations show a window only when it is final. The price: a state row holds each of the window's
    users once a step, 15 rows at a time (5 open windows and 10 minutes of watermark); 20,000 users make 1 MB a row.
    """
    from pyspark.sql import functions as F

    steps = {"unique_visitors": "page_view", "cart_users": "add_to_cart", "purchasers": "purchase"}

    def distinct_users(event_type: str) -> SparkColumn:
        users = F.collect_set(F.when(F.col("event_type") == event_type, F.col("user_id")))
        return F.size(users).cast("bigint")

    return (
        events.where(F.col("event_type").isin(*steps.values()))
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"))
        .agg(*(distinct_users(event_type).alias(name) for name, event_type in steps.items()))
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            *steps,
            (F.try_divide("cart_users", "unique_visitors") * 100).alias("cart_conversion_rate"),
            (F.try_divide("purchasers", "cart_users") * 100).alias("purchase_conversion_rate"),
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end,
           count(DISTINCT user_id) FILTER (event_type = 'page_view') AS unique_visitors,
           count(DISTINCT user_id) FILTER (event_type = 'add_to_cart') AS cart_users,
           count(DISTINCT user_id) FILTER (event_type = 'purchase') AS purchasers,
           cart_users / nullif(unique_visitors, 0) * 100 AS cart_conversion_rate,
           purchasers / nullif(cart_users, 0) * 100 AS purchase_conversion_rate
    FROM ({events_in_windows(WINDOW, SLIDE, "event_type", "page_view", "add_to_cart", "purchase")})
    GROUP BY window_start, window_end"""

STREAM = TableStream(
    name="conversion_funnel",
    source=TableSource(
        table=EVENTS,
        columns=("event_type", "event_time", "user_id"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=10),
        event_types=("page_view", "add_to_cart", "purchase"),
        distinct_within=SLIDE,
    ),
    tables=(CONVERSION_FUNNEL,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning, seconds under load.
    trigger_seconds=13.0,
    transform=count_funnel,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, SLIDE)),
)
