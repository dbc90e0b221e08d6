"""gold.customer_360: one row a customer, all that is known of him.

Incremental: a run looks at the days of gold.customer_days that changed since the version which the table's newest
commit names, adds what these days say now and takes away what they said then. So its cost follows the days that
changed, and the number of customers, whose table it writes anew; never the events.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from platform_assets.reports.customer_days import CART_ACTIONS_DDL, COUNTS_DDL, CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_report import PinnedTable, ReportCommit, pin_table
from platform_assets.streaming.changed_days import find_changed_days
from platform_assets.streaming.commit_log import CommitLog
from platform_assets.streaming.delta_tables import create_table
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession

CUSTOMER_360_TABLE = TableSpec(
    name="gold.customer_360",
    description="One row a customer: when, how often and for how much he bought, what he likes, what is in his cart.",
    grain="one user",
    key=("user_id",),
    columns=(
        Column("user_id", "string", "Who", nullable=False),
        Column("first_seen_at", "timestamp", "Time of his first event", nullable=False),
        Column("last_seen_at", "timestamp", "Time of his last event", nullable=False),
        Column("last_purchase_at", "timestamp", "Recency: time of his last purchase; null without one"),
        Column("purchases", "bigint", "Frequency: purchase events", nullable=False),
        Column("total_revenue", "double", "Monetary value: revenue of these", nullable=False),
        Column("avg_order_value", "double", "total_revenue / purchases; null without one"),
        Column("events", "bigint", "Events of every type", nullable=False),
        Column("sessions", "bigint", "Lifetime sessions (ended)", nullable=False),
        Column("last_session_start", "timestamp", "Start of his last session that has ended"),
        Column("last_session_end", "timestamp", "Time of its last event"),
        Column("favourite_category", "string", "Category of most of his events; of equal ones the first by name"),
        Column("favourite_device", "string", "Device type of most of his events; of equal ones the first by name"),
        Column("open_cart", "string", "JSON: products whose newest cart action is an add_to_cart", nullable=False),
        Column("open_cart_products", "bigint", "How many", nullable=False),
        Column("category_events", "string", "JSON: events by category", nullable=False),
        Column("device_events", "string", "JSON: events by device type", nullable=False),
        Column("cart_actions", "string", "JSON: the newest cart action by product", nullable=False),
    ),
    statistics_columns=("first_seen_at", "last_seen_at"),
)

# Each run leaves the files of the one before it. The consistency check reads the newest version only.
_VACUUM_HOURS = 24

_COUNTS = ("purchases", "events", "sessions", "revenue")
_MAPS = ("category_events", "device_events")


def merge_customers(known: DataFrame, days_now: DataFrame, days_then: DataFrame) -> DataFrame:
    """Rows of `CUSTOMER_360_TABLE`: `known`, with what some days of gold.customer_days say now and said then.

    `known` are rows of the table (none: it is built anew, from all days), `days_now` and `days_then` rows of
    gold.customer_days of the same days. Money is added up as decimal: the result does not depend on how the days came.
    Events of a day are never taken back, so times and carts are the latest of both.
    """
    from pyspark.sql import functions as F

    parts = [
        _as_facts(known.withColumnsRenamed({"first_seen_at": "first_event_at", "last_seen_at": "last_event_at"}), 1),
        _as_facts(days_now, 1),
        _as_facts(days_then, -1),
    ]
    facts = parts[0].unionByName(parts[1]).unionByName(parts[2])
    summed = facts.groupBy("user_id").agg(
        F.min("first_event_at").alias("first_seen_at"),
        F.max("last_event_at").alias("last_seen_at"),
        F.max("last_purchase_at").alias("last_purchase_at"),
        # What a session grew into, or was merged into, ends no earlier; of two with one end the longer one is newer.
        F.max_by(
            F.struct("last_session_start", "last_session_end"),
            F.struct("last_session_end", -F.unix_micros("last_session_start")),
        ).alias("last_session"),
        *(F.sum(name).alias(name) for name in _COUNTS),
        *(F.map_filter(_merged(name, _add_counts, COUNTS_DDL), _is_positive).alias(name) for name in _MAPS),
        _merged("cart_actions", _take_newest, CART_ACTIONS_DDL).alias("cart_actions"),
    )
    open_cart = F.array_sort(F.map_keys(F.map_filter("cart_actions", lambda _, action: action["open"])))
    return summed.where(F.col("events") > 0).select(
        "user_id",
        "first_seen_at",
        "last_seen_at",
        "last_purchase_at",
        "purchases",
        F.col("revenue").cast("double").alias("total_revenue"),
        F.try_divide(F.col("revenue").cast("double"), F.col("purchases")).alias("avg_order_value"),
        "events",
        "sessions",
        F.col("last_session.last_session_start").alias("last_session_start"),
        F.col("last_session.last_session_end").alias("last_session_end"),
        _most("category_events").alias("favourite_category"),
        _most("device_events").alias("favourite_device"),
        F.to_json(open_cart).alias("open_cart"),
        F.size(open_cart).cast("bigint").alias("open_cart_products"),
        *(_as_text(name).alias(name) for name in (*_MAPS, "cart_actions")),
    )


def update_customers(spark: SparkSession, lakehouse: Any) -> DeltaTable:
    """Brings gold.customer_360 up to gold.customer_days, in one commit; the table as it is then. For one run at a time.

    Nothing is written when nothing has changed. Raises `dg.Failure` when gold.customer_days does not exist.
    """
    days = pin_table(lakehouse, CUSTOMER_DAYS_TABLE.name)
    uri, options = lakehouse.table_uri(CUSTOMER_360_TABLE.name), lakehouse.storage_options()
    table = create_table(uri, CUSTOMER_360_TABLE, options)
    since = read_included_version(table)
    changed = None if since is None else _find_changed(lakehouse, since, days.version)
    if changed is not None and not changed:
        return table
    now = days.read(spark)
    known = spark.read.format("delta").load(uri)
    if changed is None or since is None:
        rows = merge_customers(known.limit(0), now, now.limit(0))
    else:
        then = PinnedTable(days.name, days.uri, since).read(spark)
        rows = merge_customers(known, _of_days(now, changed), _of_days(then, changed))
    commit = ReportCommit(None, {days.name: days.version})
    rows.write.format("delta").mode("overwrite").option("userMetadata", commit.as_json()).save(uri)
    table.update_incremental()
    table.vacuum(_VACUUM_HOURS, dry_run=False, enforce_retention_duration=False)
    return table


def read_included_version(table: DeltaTable) -> int | None:
    """The version of gold.customer_days that the table includes; None when its newest commit does not say so.

    Another one's commit on top (a deletion, a repair by hand) makes the next run build the table anew.
    """
    for commit in table.history(10):
        parsed = ReportCommit.parse(commit.get("userMetadata"))
        if parsed is not None:
            return parsed.inputs[CUSTOMER_DAYS_TABLE.name]
        if not commit["operation"].startswith("VACUUM"):
            return None
    return None


def _find_changed(lakehouse: Any, since: int, until: int) -> list[date] | None:
    """The days that changed between two versions of gold.customer_days; None when that cannot be told any more."""
    if since > until:
        return None
    log = CommitLog(lakehouse.table_uri(CUSTOMER_DAYS_TABLE.name), "", lakehouse.storage_options())
    changed = find_changed_days(log, CUSTOMER_DAYS_TABLE.partition_columns[0], since, until)
    return None if changed is None else sorted(changed)


def _of_days(rows: DataFrame, days: list[date]) -> DataFrame:
    from pyspark.sql import functions as F

    return rows.where(F.col("report_date").isin(days))


def _as_facts(rows: DataFrame, sign: int) -> DataFrame:
    from pyspark.sql import functions as F

    counted = rows.withColumn("revenue", F.col("total_revenue").cast("decimal(28,2)"))
    return counted.select(
        "user_id",
        *("first_event_at", "last_event_at", "last_purchase_at", "last_session_start", "last_session_end"),
        *((F.lit(sign) * F.col(name)).alias(name) for name in _COUNTS),
        *(
            F.transform_values(F.from_json(name, COUNTS_DDL), lambda _, count: F.lit(sign) * count).alias(name)
            for name in _MAPS
        ),
        F.from_json("cart_actions", CART_ACTIONS_DDL).alias("cart_actions"),
    )


def _merged(name: str, merge: Any, ddl: str) -> SparkColumn:
    from pyspark.sql import functions as F

    empty = F.from_json(F.lit("{}"), ddl)
    return F.aggregate(F.collect_list(name), empty, lambda one, other: F.map_zip_with(one, other, merge))


def _add_counts(_: SparkColumn, one: SparkColumn, other: SparkColumn) -> SparkColumn:
    from pyspark.sql import functions as F

    return F.coalesce(one, F.lit(0)) + F.coalesce(other, F.lit(0))


def _is_positive(_: SparkColumn, count: SparkColumn) -> SparkColumn:
    return count > 0


def _take_newest(_: SparkColumn, one: SparkColumn, other: SparkColumn) -> SparkColumn:
    from pyspark.sql import functions as F

    return F.when(one.isNull() | (other > one), other).otherwise(one)


def _most(name: str) -> SparkColumn:
    from pyspark.sql import functions as F

    ranked = F.transform(F.map_entries(name), lambda entry: F.struct((-entry["value"]).alias("n"), entry["key"]))
    return F.array_min(ranked)["key"]


def _as_text(name: str) -> SparkColumn:
    """The map as JSON, its names in order."""
    from pyspark.sql import functions as F

    return F.to_json(F.map_from_entries(F.array_sort(F.map_entries(name))))
