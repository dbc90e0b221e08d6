"""gold.session_report: how many sessions a day brought, how long they were and how many of them bought."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime
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
from platform_assets.streams.sessions import SESSIONS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SESSION_REPORT_TABLE = TableSpec(
    name="gold.session_report",
    description="Sessions of a UTC day by device and country: bounces, conversions, revenue, length.",
    grain="one day, device type and country",
    key=("report_date", "device_type", "country"),
    columns=(
        Column("report_date", "date", "UTC day on which the sessions started", nullable=False),
        Column("device_type", "string", "Device of the sessions' first event; null where unknown"),
        Column("country", "string", "Country of the sessions' first event; null where unknown"),
        Column("sessions", "bigint", "Sessions that started on the day", nullable=False),
        Column("users", "bigint", "Distinct users of these sessions", nullable=False),
        Column("bounced_sessions", "bigint", "Sessions of exactly one event", nullable=False),
        Column("bounce_rate", "double", "bounced_sessions / sessions, 0 to 1", nullable=False),
        Column("converted_sessions", "bigint", "Sessions with at least one purchase", nullable=False),
        Column("conversion_rate", "double", "converted_sessions / sessions, 0 to 1", nullable=False),
        Column("total_revenue", "double", "Revenue of the sessions", nullable=False),
        Column("avg_duration_seconds", "double", "Mean length of a session", nullable=False),
        Column("p50_duration_seconds", "double", "Median length, interpolated", nullable=False),
        Column("p90_duration_seconds", "double", "90th percentile of the length, interpolated", nullable=False),
        Column("avg_events", "double", "Mean number of events in a session", nullable=False),
        Column("avg_products", "double", "Mean number of distinct products viewed in a session", nullable=False),
    ),
    partition_columns=("report_date",),
)


def summarize_sessions(sessions: "DataFrame") -> "DataFrame":
    """Sums sessions (rows of gold.sessions) up to rows of `SESSION_REPORT_TABLE`.

    A session belongs wholly to the day on which it started. A group exists only when it has a session, so no divisor
    is ever 0. Means are exact integer sums divided once: they do not depend on the order of the rows.
    """
    from pyspark.sql import functions as F

    count = F.count(F.lit(1))
    bounced = F.count(F.when(F.col("event_count") == 1, F.lit(1)))
    converted = F.count(F.when(F.col("purchase_count") > 0, F.lit(1)))
    length_micros = F.unix_micros("session_end") - F.unix_micros("session_start")
    return sessions.groupBy(F.col("session_date").alias("report_date"), "device_type", "country").agg(
        count.alias("sessions"),
        F.count_distinct("user_id").alias("users"),
        bounced.alias("bounced_sessions"),
        (bounced / count).alias("bounce_rate"),
        converted.alias("converted_sessions"),
        (converted / count).alias("conversion_rate"),
        F.sum(F.col("total_revenue").cast("decimal(28,2)")).cast("double").alias("total_revenue"),
        (F.sum(length_micros) / count / 1_000_000).alias("avg_duration_seconds"),
        F.percentile("duration_seconds", 0.5).alias("p50_duration_seconds"),
        F.percentile("duration_seconds", 0.9).alias("p90_duration_seconds"),
        (F.sum("event_count") / count).alias("avg_events"),
        (F.sum("unique_products") / count).alias("avg_products"),
    )


def count_sessions_by_hour(sessions: "DataFrame") -> list[int]:
    """Sessions by UTC hour of their start: 24 numbers, summed over the days given."""
    from pyspark.sql import functions as F

    counts = [0] * 24
    for row in sessions.groupBy(F.hour("session_start").alias("hour")).agg(F.count(F.lit(1)).alias("n")).collect():
        counts[row["hour"]] = row["n"]
    return counts


def build_session_report_asset(partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The Dagster asset `gold/session_report`; needs the resources `spark` and `lakehouse`."""

    @dg.asset(
        key=list(SESSION_REPORT_TABLE.asset_path),
        deps=[list(SESSIONS.asset_path)],
        description=SESSION_REPORT_TABLE.description,
        group_name="reports",
        kinds={"spark", "deltalake"},
        owners=["team:data-platform"],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=FRESHNESS_POLICY,
        op_tags=dict(BATCH_SPARK_TAGS),
        required_resource_keys={"spark", "lakehouse"},
    )
    def session_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from platform_assets.reports.pictures import draw_sessions_by_hour

        days = day_range_of(context)
        lakehouse = context.resources.lakehouse
        pinned = pin_table(lakehouse, SESSIONS.name, "Start the stream group that writes it, or run `make drain`.")
        sessions = pinned.read(context.resources.spark.spark_session).where(days.predicate("session_date"))
        replace_days(summarize_sessions(sessions), SESSION_REPORT_TABLE, lakehouse, days, (pinned,))
        metadata = describe_days(
            lakehouse.delta_table(SESSION_REPORT_TABLE.name), SESSION_REPORT_TABLE, days, datetime.now(UTC)
        )
        picture = draw_sessions_by_hour(count_sessions_by_hour(sessions), str(days))
        return dg.MaterializeResult(metadata={**metadata, "sessions_by_hour": dg.MetadataValue.md(picture)})

    return session_report
