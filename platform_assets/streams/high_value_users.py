"""Stream `high_value_users`: who spent more than 100 within five minutes, visible while a window is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.rules import SUM_OF_REVENUE, events_in_windows
from platform_assets.streaming.specs import ResultSpan, StreamSpec, TableSource, in_words
from platform_assets.streams.events import EVENTS
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=5)
SLIDE = timedelta(minutes=1)
HIGH_VALUE = 100

HIGH_VALUE_USERS = TableSpec(
    name="gold.high_value_users",
    description=f"Known users who spent more than {HIGH_VALUE} in a sliding window (5 minutes, every minute).",
    grain=f"window x user with total_spent > {HIGH_VALUE}",
    key=("window_start", "window_end", "user_id"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("user_id", "string", "Who"),
        Column("total_spent", "double", "Sum of revenue, summed as decimal(18,2)"),
        Column("purchase_count", "bigint", "Purchase events"),
        Column("products_purchased", "bigint", "Distinct products purchased"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def find_high_value_users(events: DataFrame) -> DataFrame:
    """Users of each window whose purchases sum up to more than `HIGH_VALUE`.

    Takes `event_type`, `event_time`, `user_id`, `product_id`, `revenue`, on a stream or on a batch; returns rows of
    `HIGH_VALUE_USERS`. Revenue is never negative, so a user who has come into a window's list stays in it. Revenue
    beyond decimal(18,2) counts as 0 rather than failing the stream.
    """
    from pyspark.sql import functions as F

    return (
        events.where((F.col("event_type") == "purchase") & F.expr("is_anonymous is not true"))
        .groupBy(F.window("event_time", in_words(WINDOW), in_words(SLIDE)).alias("time_window"), "user_id")
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
        )
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, user_id, CAST({SUM_OF_REVENUE} AS DOUBLE) AS total_spent,
           count(*) AS purchase_count, count(DISTINCT product_id) AS products_purchased
    FROM ({events_in_windows(WINDOW, SLIDE, "purchase")}) WHERE is_anonymous IS NOT TRUE
    GROUP BY window_start, window_end, user_id
    HAVING {SUM_OF_REVENUE} > {HIGH_VALUE}"""

STREAM = StreamSpec(
    name="high_value_users",
    source=TableSource(
        table=EVENTS,
        columns=("event_type", "event_time", "user_id", "product_id", "revenue", "is_anonymous"),
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
