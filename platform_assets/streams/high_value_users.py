"""Stream `high_value_users`: who spent more than 100 of a currency within five minutes, visible while it is open."""

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

WINDOW = timedelta(minutes=5)
SLIDE = timedelta(minutes=1)
HIGH_VALUE = 100

HIGH_VALUE_USERS = TableSpec(
    name="gold.high_value_users",
    description=f"Known users who spent more than {HIGH_VALUE} of a currency in a sliding window (5 minutes, every 1).",
    grain=f"window x user x currency with total_spent > {HIGH_VALUE}",
    key=("window_start", "window_end", "user_id", "currency"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("user_id", "string", "Who"),
        Column("total_spent", "double", "Sum of the known amounts, as decimal(18,2)"),
        Column("purchase_count", "bigint", "Purchase events"),
        Column("products_purchased", "bigint", "Distinct products purchased"),
        Column("currency", "string", "Currency of the amounts; null where the shop sent none"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def find_high_value_users(events: DataFrame) -> DataFrame:
    """Users of each window whose purchases in one currency sum up to more than `HIGH_VALUE` of it.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `HIGH_VALUE_USERS`. Revenue is
    never negative, so a user who has come into a window's list stays in it. Revenue that was not sent, or is beyond
    decimal(18,2), adds nothing.
    """
    from pyspark.sql import functions as F

    return (
        events.where((F.col("event_type") == "purchase") & F.expr("is_anonymous is not true"))
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "user_id", "currency")
        .agg(
            F.sum(F.col("revenue").try_cast("decimal(18,2)")).alias("spent"),
            F.count(F.lit(1)).alias("purchase_count"),
            # Not count(distinct): Spark refuses it on a stream.
            F.size(F.collect_set("product_id")).cast("bigint").alias("products_purchased"),
        )
        .where(F.col("spent") > HIGH_VALUE)
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "user_id",
            F.col("spent").cast("double").alias("total_spent"),
            "purchase_count",
            "products_purchased",
            "currency",
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, user_id, CAST(sum({AMOUNT}) AS DOUBLE) AS total_spent,
           count(*) AS purchase_count, count(DISTINCT product_id) AS products_purchased, currency
    FROM ({events_in_windows(WINDOW, SLIDE, "event_type", "purchase")}) WHERE is_anonymous IS NOT TRUE
    GROUP BY window_start, window_end, user_id, currency
    HAVING sum({AMOUNT}) > {HIGH_VALUE}"""

STREAM = TableStream(
    name="high_value_users",
    source=TableSource(
        table=EVENTS,
        columns=("event_type", "event_time", "user_id", "product_id", "revenue", "is_anonymous", "currency"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=("purchase",),
    ),
    tables=(HIGH_VALUE_USERS,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning, seconds under load.
    trigger_seconds=11.0,
    transform=find_high_value_users,
    rule=RULE,
    write_mode="upsert",
    publish_topic="high-value-users",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, SLIDE), by_user=True),
)
