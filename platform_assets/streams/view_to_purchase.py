"""Stream `view_to_purchase`: each view of a product with each purchase of it by the same user within 30 minutes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_LAG = timedelta(minutes=30)

VIEW_TO_PURCHASE = TableSpec(
    name="gold.view_to_purchase",
    description="A page_view and a purchase of the same product by the same known user, at most 30 minutes later.",
    grain="page_view x purchase, same user and product, 0 < lag <= 30 min",
    key=("view_event_id", "view_time", "purchase_event_id", "purchase_time"),
    columns=(
        Column("view_event_id", "string", "The view's event_id"),
        Column("purchase_event_id", "string", "The purchase's event_id"),
        Column("user_id", "string", "Who"),
        Column("product_id", "string", "Which product"),
        Column("view_time", "timestamp", "Event time of the view, UTC"),
        Column("purchase_time", "timestamp", "Event time of the purchase, UTC"),
        Column("time_to_purchase_seconds", "double", "purchase_time - view_time"),
        Column("device_type", "string", "Device of the view"),
        Column("revenue", "double", "Revenue of the purchase; repeats with each of its views, so not for summing"),
        Column("currency", "string", "Its currency; null where the shop sent none"),
    ),
    statistics_columns=("view_time", "purchase_time"),
)


def match_views_with_purchases(events: DataFrame) -> DataFrame:
    """All pairs, each once. Takes the columns of `STREAM.source`; returns rows of `VIEW_TO_PURCHASE`.

    On a stream both sides are filters of one DataFrame, so Spark reads the source once a side but tracks one watermark;
    a view is kept until no purchase within 30 minutes can come any more, a purchase until no earlier view can.
    """
    from pyspark.sql import functions as F

    events = events.where("is_anonymous is not true")
    views = events.where(F.col("event_type") == "page_view").select(
        F.col("event_id").alias("view_event_id"),
        "user_id",
        "product_id",
        F.col("event_time").alias("view_time"),
        "device_type",
    )
    purchases = events.where(F.col("event_type") == "purchase").select(
        F.col("event_id").alias("purchase_event_id"),
        F.col("user_id").alias("buyer"),
        F.col("product_id").alias("bought"),
        F.col("event_time").alias("purchase_time"),
        "revenue",
        "currency",
    )
    lag_limit = F.expr(f"interval {in_words(MAX_LAG)}")
    return views.join(
        purchases,
        (F.col("user_id") == F.col("buyer"))
        & (F.col("product_id") == F.col("bought"))
        & (F.col("purchase_time") > F.col("view_time"))
        & (F.col("purchase_time") <= F.col("view_time") + lag_limit),
    ).select(
        "view_event_id",
        "purchase_event_id",
        "user_id",
        "product_id",
        "view_time",
        "purchase_time",
        ((F.unix_micros("purchase_time") - F.unix_micros("view_time")) / 1_000_000).alias("time_to_purchase_seconds"),
        "device_type",
        "revenue",
        "currency",
    )


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT v.event_id AS view_event_id, p.event_id AS purchase_event_id, v.user_id, v.product_id,
           v.event_time AS view_time, p.event_time AS purchase_time,
           (epoch_us(p.event_time) - epoch_us(v.event_time)) / 1000000 AS time_to_purchase_seconds,
           v.device_type, p.revenue, p.currency
    FROM events v JOIN events p ON v.user_id = p.user_id AND v.product_id = p.product_id
    WHERE v.event_type = 'page_view' AND p.event_type = 'purchase' AND p.event_time > v.event_time
      AND p.event_time - v.event_time <= INTERVAL '{in_words(MAX_LAG)}'
      AND v.is_anonymous IS NOT TRUE AND p.is_anonymous IS NOT TRUE"""

STREAM = TableStream(
    name="view_to_purchase",
    source=TableSource(
        table=EVENTS,
        columns=(
            "event_id",
            "event_type",
            "event_time",
            "user_id",
            "product_id",
            "device_type",
            "revenue",
            "is_anonymous",
            "currency",
        ),
        time_column="event_time",
        watermark_delay=timedelta(minutes=10),
        event_types=("page_view", "purchase"),
    ),
    tables=(VIEW_TO_PURCHASE,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning, seconds under load.
    trigger_seconds=17.0,
    transform=match_views_with_purchases,
    rule=RULE,
    write_mode="append",
    span=ResultSpan("view_time", "purchase_time", reach=MAX_LAG, by_user=True, of_pairs=True),
)
