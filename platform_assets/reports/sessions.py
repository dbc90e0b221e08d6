"""gold.sessions: what each user did between two pauses of at least 30 minutes."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.daily import (
    BATCH_SPARK_TAGS,
    FRESHNESS_POLICY,
    DayRange,
    PinnedTable,
    day_range_of,
    describe_days,
    pin_table,
    replace_days,
)
from platform_assets.streaming.specs import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

INACTIVITY = timedelta(minutes=30)

# `session_window` merges two events whose distance is exactly the gap, while a pause of exactly 30 minutes must begin
# a new session: the gap is one microsecond, the resolution of an event's time, shorter.
_GAP = "29 minutes 59 seconds 999 milliseconds 999 microseconds"

SESSIONS_TABLE = TableSpec(
    name="gold.sessions",
    description="Activity sessions: the events of one user without a pause of 30 minutes or more, by event time.",
    grain="one session of one user",
    key=("user_id", "session_start"),
    columns=(
        Column("user_id", "string", "Who", nullable=False),
        Column("session_start", "timestamp", "Time of the session's first event (UTC)", nullable=False),
        Column("session_end", "timestamp", "Time of the session's last event (UTC)", nullable=False),
        Column("session_date", "date", "UTC day of session_start", nullable=False),
        Column("duration_seconds", "double", "session_end - session_start; 0 for a single event", nullable=False),
        Column("event_count", "bigint", "Events of every type", nullable=False),
        Column("purchase_count", "bigint", "Purchase events", nullable=False),
        Column("total_revenue", "double", "Revenue of the purchases; 0 without one", nullable=False),
        Column("unique_products", "bigint", "Distinct products viewed (page_view); 0, not null", nullable=False),
        Column("device_type", "string", "Of the first event"),
        Column("country", "string", "Of the first event"),
    ),
    partition_columns=("session_date",),
    statistics_columns=("user_id", "session_start", "session_end"),
)

# What the transformation reads of silver.events: all other columns are pruned before the shuffle.
_EVENT_COLUMNS = (
    "event_type", "event_time", "user_id", "product_id", "device_type", "country", "revenue", "kafka_partition",
    "kafka_offset",
)  # fmt: skip


def build_sessions(events: "DataFrame") -> "DataFrame":
    """Groups events (columns of silver.events) into the sessions of `SESSIONS_TABLE`.

    Pure, and made of operators that run on a stream in append mode as well as on a batch. The order in which events
    arrive does not matter. The first event is the lowest by (event_time, kafka_partition, kafka_offset). Money is
    summed as decimal(18,2), so the sum does not depend on the order; a purchase's revenue beyond that type (10^16
    and more) counts as 0 rather than failing the whole table.
    """
    from pyspark.sql import functions as F

    is_purchase = F.col("event_type") == "purchase"
    first_event = F.min_by(
        F.struct("device_type", "country"), F.struct("event_time", "kafka_partition", "kafka_offset")
    )
    grouped = events.groupBy("user_id", F.session_window("event_time", _GAP)).agg(
        F.min("event_time").alias("session_start"),
        F.max("event_time").alias("session_end"),
        F.count(F.lit(1)).alias("event_count"),
        F.count(F.when(is_purchase, F.lit(1))).alias("purchase_count"),
        F.sum(F.when(is_purchase, F.col("revenue").try_cast("decimal(18,2)"))).alias("revenue"),
        # Not count(distinct): Spark refuses it on a stream.
        F.collect_set(F.when(F.col("event_type") == "page_view", F.col("product_id"))).alias("products"),
        first_event.alias("first"),
    )
    return grouped.select(
        "user_id",
        "session_start",
        "session_end",
        F.to_date("session_start").alias("session_date"),
        ((F.unix_micros("session_end") - F.unix_micros("session_start")) / 1_000_000).alias("duration_seconds"),
        "event_count",
        "purchase_count",
        F.coalesce(F.col("revenue").cast("double"), F.lit(0.0)).alias("total_revenue"),
        F.size("products").cast("bigint").alias("unique_products"),
        F.col("first.device_type").alias("device_type"),
        F.col("first.country").alias("country"),
    )


def read_sessions_of_days(spark: "SparkSession", events: PinnedTable, days: DayRange) -> "DataFrame":
    """The sessions that *start* in `days`, complete however long they are; rows of `SESSIONS_TABLE`, cached.

    Below the range, 30 minutes of events are enough and exact: a session that is seen to start inside the range has
    no event of its user in the 30 minutes before, and one that began earlier is seen to begin earlier. Above it no
    bound is known, so one day is read first and the margin is doubled for as long as a session of the range comes
    within 30 minutes of the last event read while the table goes on. The caller unpersists the result.
    """
    from pyspark.sql import functions as F

    table = events.read(spark)
    margin = timedelta(days=1)
    while True:
        until = days.end + margin
        sessions = (
            build_sessions(read_events_between(table, days.start - INACTIVITY, until).select(*_EVENT_COLUMNS))
            .where(days.predicate("session_date"))
            .persist()
        )
        may_go_on = not sessions.where(F.col("session_end") > F.lit(until - INACTIVITY)).isEmpty()
        # An event beyond what was read may belong to it only if there is one at all.
        if not (may_go_on and not read_events_between(table, until, None).isEmpty()):
            return sessions
        sessions.unpersist()
        margin *= 2


def read_events_between(events: "DataFrame", start: datetime, end: datetime | None) -> "DataFrame":
    """Events of [start, end), by event time; `end` None: open. Prunes by the partition column `event_date`."""
    from pyspark.sql import functions as F

    kept = events.where((F.col("event_date") >= F.lit(start.date())) & (F.col("event_time") >= F.lit(start)))
    if end is not None:
        kept = kept.where((F.col("event_date") <= F.lit(end.date())) & (F.col("event_time") < F.lit(end)))
    return kept


def build_sessions_asset(partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The Dagster asset `gold/sessions`; needs the resources `spark` and `lakehouse`."""

    @dg.asset(
        key=list(SESSIONS_TABLE.asset_path),
        deps=[["silver", "events"]],
        description=SESSIONS_TABLE.description,
        group_name="reports",
        kinds={"spark", "deltalake"},
        owners=["team:data-platform"],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=FRESHNESS_POLICY,
        op_tags=dict(BATCH_SPARK_TAGS),
        required_resource_keys={"spark", "lakehouse"},
    )
    def sessions(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        days = day_range_of(context)
        lakehouse = context.resources.lakehouse
        events = pin_table(lakehouse, "silver.events", "Start the stream group that writes it, or run `make drain`.")
        rows = read_sessions_of_days(context.resources.spark.spark_session, events, days)
        try:
            replace_days(rows, SESSIONS_TABLE, lakehouse, days, (events,))
        finally:
            rows.unpersist()
        table = lakehouse.delta_table(SESSIONS_TABLE.name)
        return dg.MaterializeResult(metadata=describe_days(table, SESSIONS_TABLE, days, datetime.now(UTC)))

    return sessions
