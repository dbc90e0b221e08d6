"""gold.customer_days: what each customer did on a day. What gold.customer_360 is summed up from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.days import DayRange
from platform_assets.streams.events import EVENTS
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

# The newest of these says whether a product is in the cart.
CART_TYPES = ("add_to_cart", "remove_from_cart", "purchase")

# An action on a product in the cart. As a struct it orders as the events do: by time, then as the topic has them.
CART_ACTIONS_DDL = "map<string, struct<at: bigint, partition: int, offset: bigint, open: boolean>>"
COUNTS_DDL = "map<string, bigint>"

CUSTOMER_DAYS_TABLE = TableSpec(
    name="gold.customer_days",
    description="What each customer did on a UTC day: events, purchases, sessions, cart.",
    grain="one day and user",
    key=("report_date", "user_id"),
    columns=(
        Column("report_date", "date", "UTC day of the events, and of the sessions' start", nullable=False),
        Column("user_id", "string", "Who", nullable=False),
        Column("first_event_at", "timestamp", "Time of the day's first event", nullable=False),
        Column("last_event_at", "timestamp", "Time of the day's last event", nullable=False),
        Column("events", "bigint", "Events of every type", nullable=False),
        Column("purchases", "bigint", "Purchase events", nullable=False),
        Column("total_revenue", "double", "Revenue of these", nullable=False),
        Column("last_purchase_at", "timestamp", "Time of the day's last purchase; null without one"),
        Column("sessions", "bigint", "Sessions (ended) that started on the day", nullable=False),
        Column("last_session_start", "timestamp", "Start of the last of these; null without one"),
        Column("last_session_end", "timestamp", "Time of its last event"),
        Column("category_events", "string", "JSON: events by category, where one is known", nullable=False),
        Column("device_events", "string", "JSON: events by device type, where one is known", nullable=False),
        Column("cart_actions", "string", "JSON: the newest cart action by product, and whether it is open after it",
               nullable=False),
    ),
    partition_columns=("report_date",),
    statistics_columns=("first_event_at", "last_event_at"),
)  # fmt: skip


def summarize_customers(events: DataFrame, sessions: DataFrame) -> DataFrame:
    """Rows of `CUSTOMER_DAYS_TABLE` from rows of silver.events and of gold.sessions.

    A product is open in the cart when the newest of its events of `CART_TYPES` is an add_to_cart.
    """
    from pyspark.sql import functions as F

    is_purchase = F.col("event_type") == "purchase"
    in_cart = F.col("event_type").isin(*CART_TYPES) & F.col("product_id").isNotNull()
    action = F.struct(
        F.unix_micros("event_time").alias("at"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
        (F.col("event_type") == "add_to_cart").alias("open"),
    )
    own = events.groupBy(F.to_date("event_time").alias("report_date"), "user_id").agg(
        F.min("event_time").alias("first_event_at"),
        F.max("event_time").alias("last_event_at"),
        F.count(F.lit(1)).alias("events"),
        F.count_if(is_purchase).alias("purchases"),
        F.sum(F.when(is_purchase, F.col("revenue").try_cast("decimal(18,2)"))).cast("double").alias("revenue"),
        F.max(F.when(is_purchase, F.col("event_time"))).alias("last_purchase_at"),
        # Lists, counted below: one shuffle in all, where an aggregation for each would be one and a join more.
        F.collect_list(F.struct(F.col("category").alias("key"))).alias("categories"),
        F.collect_list(F.struct(F.col("device_type").alias("key"))).alias("devices"),
        F.collect_list(F.when(in_cart, F.struct(F.col("product_id").alias("key"), action.alias("action")))).alias(
            "actions"
        ),
    )
    visits = sessions.groupBy(F.col("session_date").alias("report_date"), "user_id").agg(
        F.count(F.lit(1)).alias("sessions"),
        F.max("session_start").alias("last_session_start"),
        F.max_by("session_end", "session_start").alias("last_session_end"),
    )
    return (
        own.join(visits, ["report_date", "user_id"], "left")
        .withColumns(
            {
                "total_revenue": F.coalesce("revenue", F.lit(0.0)),
                "sessions": F.coalesce("sessions", F.lit(0)),
                "category_events": _by_key("categories", F.size),
                "device_events": _by_key("devices", F.size),
                "cart_actions": _by_key("actions", lambda entries: F.array_max(entries["action"])),
            }
        )
        .select(*(column.name for column in CUSTOMER_DAYS_TABLE.columns))
    )


def _by_key(entries: str, summarize: Callable[[SparkColumn], SparkColumn]) -> SparkColumn:
    """The entries of a list by their `key`, where there is one, as a JSON object with its names in order."""
    from pyspark.sql import functions as F

    known = F.filter(entries, lambda entry: entry["key"].isNotNull())
    keys = F.array_sort(F.array_distinct(known["key"]))
    values = F.transform(keys, lambda key: summarize(F.filter(known, lambda entry: entry["key"] == key)))
    return F.to_json(F.map_from_arrays(keys, values))


def _compute(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    events = inputs[EVENTS.name].where(days.predicate("event_date"))
    sessions = inputs[SESSIONS.name].where(days.predicate("session_date"))
    columns = (
        "event_type", "event_time", "user_id", "product_id", "category", "device_type", "revenue", "kafka_partition",
        "kafka_offset",
    )  # fmt: skip
    return summarize_customers(events.select(*columns), sessions)


CUSTOMER_DAYS = DailyReport(
    table=CUSTOMER_DAYS_TABLE, inputs=(ReportInput(EVENTS), ReportInput(SESSIONS)), compute=_compute
)
