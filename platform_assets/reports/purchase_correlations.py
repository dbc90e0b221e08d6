"""gold.purchase_correlations: which products are bought soon after they were viewed."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.daily import (
    BATCH_SPARK_TAGS,
    FRESHNESS_POLICY,
    day_range_of,
    describe_days,
    pin_table,
    replace_days,
)
from platform_assets.streaming.specs import Column, TableSpec
from platform_assets.streams.view_to_purchase import MAX_LAG

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_MAX_LAG_MICROS = MAX_LAG // timedelta(microseconds=1)

PURCHASE_CORRELATIONS_TABLE = TableSpec(
    name="gold.purchase_correlations",
    description="Views and purchases of a product on a UTC day, and how often one led to the other in 30 minutes.",
    grain="one day and product",
    key=("report_date", "product_id"),
    columns=(
        Column("report_date", "date", "UTC day of the views, and of the purchases", nullable=False),
        Column("product_id", "string", "Product viewed or bought on the day", nullable=False),
        Column("views", "bigint", "page_view events of the day", nullable=False),
        Column("purchases", "bigint", "purchase events of the day", nullable=False),
        Column("converted_views", "bigint", "Views of the day that a purchase followed in 30 min", nullable=False),
        Column("view_to_purchase_rate", "double", "converted_views / views, 0 to 1; null without a view"),
        Column("p50_lag_seconds", "double", "Median time from view to purchase over all pairs of the day's views"),
        Column("p90_lag_seconds", "double", "90th percentile of the same"),
        Column("attributed_revenue", "double", "Revenue of the day's purchases that a view led to", nullable=False),
        Column("lift", "double", "view_to_purchase_rate over the shop's; null without a view or when that is 0"),
    ),
    partition_columns=("report_date",),
)

# What the report reads of silver.events: all other columns are pruned before the join.
_EVENT_COLUMNS = (
    "event_id", "event_type", "event_time", "user_id", "product_id", "revenue", "topic", "kafka_partition",
    "kafka_offset",
)  # fmt: skip


def pair_views_with_purchases(events: "DataFrame") -> "DataFrame":
    """All pairs of a page_view and a purchase of the same user and product with 0 < lag <= 30 minutes.

    Columns: `view` and `purchase` (each the event's Kafka coordinates and id: its identity), `user_id`,
    `product_id`, `view_time`, `purchase_time`, `revenue` (the purchase's), `lag_micros`. Events without a product
    are in no pair.
    """
    from pyspark.sql import functions as F

    identity = F.struct("topic", "kafka_partition", "kafka_offset", "event_id")
    known = events.where(F.col("product_id").isNotNull())
    micros = F.unix_micros("event_time")
    # Without it, a user who views and buys one product all day is joined with himself squared: a purchase meets only
    # the views of its own half hour and of the one before.
    half_hour = F.floor(micros / _MAX_LAG_MICROS)
    views = known.where(F.col("event_type") == "page_view").select(
        identity.alias("view"),
        "user_id",
        "product_id",
        F.col("event_time").alias("view_time"),
        half_hour.alias("half_hour"),
    )
    purchases = known.where(F.col("event_type") == "purchase").select(
        identity.alias("purchase"),
        "user_id",
        "product_id",
        F.col("event_time").alias("purchase_time"),
        "revenue",
        F.explode(F.array(half_hour, half_hour - 1)).alias("half_hour"),
    )
    return (
        views.join(purchases, ["user_id", "product_id", "half_hour"])
        .withColumn("lag_micros", F.unix_micros("purchase_time") - F.unix_micros("view_time"))
        .where((F.col("lag_micros") > 0) & (F.col("lag_micros") <= _MAX_LAG_MICROS))
        .drop("half_hour")
    )


def correlate_purchases(events: "DataFrame") -> "DataFrame":
    """Rows of `PURCHASE_CORRELATIONS_TABLE` for every day and product among `events` (columns of silver.events).

    Which day counts what:
    - by the day of the *view*: `views`, `converted_views`, the rate, the lift and the lags (so a view at 23:50 that
      is bought at 00:10 is a conversion of the first day);
    - by the day of the *purchase*: `purchases` and `attributed_revenue`.

    A purchase is credited once, to the last view before it; that view has the same product by definition, so ties
    between views cannot change a sum. Lags are taken over all pairs, as in gold.view_to_purchase. Percentiles are
    exact, interpolated. `lift` compares with all views of the day that have a product. For a complete day the events
    must reach from 30 minutes before it to 30 minutes after it; rows of days at the rim are then partial, and the
    caller drops them.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    pairs = pair_views_with_purchases(events)
    lag_seconds = F.col("lag_micros") / 1_000_000
    by_view = pairs.groupBy(F.to_date("view_time").alias("report_date"), "product_id").agg(
        F.count_distinct("view").alias("converted_views"),
        F.percentile(lag_seconds, 0.5).alias("p50_lag_seconds"),
        F.percentile(lag_seconds, 0.9).alias("p90_lag_seconds"),
    )
    attributed = pairs.groupBy("purchase", "product_id", "purchase_time", "revenue").count()
    by_purchase = attributed.groupBy(F.to_date("purchase_time").alias("report_date"), "product_id").agg(
        F.sum(F.col("revenue").try_cast("decimal(18,2)")).alias("attributed")
    )
    counts = (
        events.where(F.col("product_id").isNotNull() & F.col("event_type").isin("page_view", "purchase"))
        .groupBy(F.to_date("event_time").alias("report_date"), "product_id")
        .agg(
            F.count(F.when(F.col("event_type") == "page_view", F.lit(1))).alias("views"),
            F.count(F.when(F.col("event_type") == "purchase", F.lit(1))).alias("purchases"),
        )
    )
    joined = counts.join(by_view, ["report_date", "product_id"], "left").join(
        by_purchase, ["report_date", "product_id"], "left"
    )
    converted = F.coalesce("converted_views", F.lit(0))
    the_day = Window.partitionBy("report_date")
    shop_rate = F.try_divide(F.sum(converted).over(the_day), F.sum("views").over(the_day))
    return joined.select(
        "report_date",
        "product_id",
        "views",
        "purchases",
        converted.alias("converted_views"),
        F.try_divide(converted, F.col("views")).alias("view_to_purchase_rate"),
        "p50_lag_seconds",
        "p90_lag_seconds",
        F.coalesce(F.col("attributed").cast("double"), F.lit(0.0)).alias("attributed_revenue"),
        F.try_divide(F.try_divide(converted, F.col("views")), shop_rate).alias("lift"),
    )


def count_pairs_by_minute(pairs: "DataFrame") -> list[int]:
    """Pairs by whole minutes of their lag: 30 numbers, the first for lags up to and with one minute."""
    from pyspark.sql import functions as F

    counts = [0] * 30
    minute = F.floor((F.col("lag_micros") - 1) / 60_000_000)
    for row in pairs.groupBy(minute.alias("minute")).agg(F.count(F.lit(1)).alias("n")).collect():
        counts[row["minute"]] = row["n"]
    return counts


def read_events_between(events: "DataFrame", start: datetime, end: datetime | None) -> "DataFrame":
    """Events of [start, end), by event time; `end` None: open. Prunes by the partition column `event_date`."""
    from pyspark.sql import functions as F

    kept = events.where((F.col("event_date") >= F.lit(start.date())) & (F.col("event_time") >= F.lit(start)))
    if end is not None:
        kept = kept.where((F.col("event_date") <= F.lit(end.date())) & (F.col("event_time") < F.lit(end)))
    return kept


def build_purchase_correlations_asset(partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The Dagster asset `gold/purchase_correlations`; needs the resources `spark` and `lakehouse`."""

    @dg.asset(
        key=list(PURCHASE_CORRELATIONS_TABLE.asset_path),
        deps=[["silver", "events"]],
        description=PURCHASE_CORRELATIONS_TABLE.description,
        group_name="reports",
        kinds={"spark", "deltalake"},
        owners=["team:data-platform"],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=FRESHNESS_POLICY,
        op_tags=dict(BATCH_SPARK_TAGS),
        required_resource_keys={"spark", "lakehouse"},
    )
    def purchase_correlations(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from platform_assets.reports.pictures import draw_lag_distribution

        days = day_range_of(context)
        lakehouse = context.resources.lakehouse
        pinned = pin_table(lakehouse, "silver.events", "Start the stream group that writes it, or run `make drain`.")
        table = pinned.read(context.resources.spark.spark_session)
        events = read_events_between(table, days.start - MAX_LAG, days.end + MAX_LAG).select(*_EVENT_COLUMNS)
        # Spark recognises the plan of a cached frame wherever it occurs: the table and the picture share one join.
        pairs = pair_views_with_purchases(events).persist()
        try:
            rows = correlate_purchases(events).where(days.predicate("report_date"))
            replace_days(rows, PURCHASE_CORRELATIONS_TABLE, lakehouse, days, (pinned,))
            lags = count_pairs_by_minute(pairs.where(days.predicate("to_date(view_time)")))
        finally:
            pairs.unpersist()
        metadata = describe_days(
            lakehouse.delta_table(PURCHASE_CORRELATIONS_TABLE.name),
            PURCHASE_CORRELATIONS_TABLE,
            days,
            datetime.now(UTC),
        )
        picture = draw_lag_distribution(lags, str(days))
        return dg.MaterializeResult(metadata={**metadata, "lag_distribution": dg.MetadataValue.md(picture)})

    return purchase_correlations
