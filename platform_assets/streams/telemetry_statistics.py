"""Stream `telemetry_statistics`: what each sensor has measured in five minutes, visible while the window is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.telemetry import MICROS_SQL, STANDARD_UNIT_SQL, TELEMETRY

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=5)

TELEMETRY_STATISTICS = TableSpec(
    name="gold.telemetry_statistics",
    description="What each sensor has measured in a window of five minutes, by kind, in the kind's standard unit. "
    "Two rows add up: counts and totals are sums, least and greatest values are minima and maxima.",
    grain="window x sensor x kind with at least one reading",
    key=("window_start", "window_end", "sensor", "kind"),
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
        Column("sensor", "string", "Which sensor"),
        Column("kind", "string", "What is measured"),
        Column("unit", "string", "The kind's standard unit, in which all values of the row are"),
        Column("readings", "bigint", "Readings that count: all but the bad ones"),
        Column("bad_readings", "bigint", "Readings of which the sensor says that they are bad"),
        Column("min_value", "double", "Least value; this and the next are null where none counts"),
        Column("max_value", "double", "Greatest value"),
        Column("mean_value", "double", "total_value / readings"),
        Column("total_value", "decimal(26,6)", "Sum of the values"),
        Column("total_of_squares", "decimal(38,12)", "Sum of the values' squares: gives the variance of any period"),
    ),
    statistics_columns=("window_start", "window_end"),
)

_VALUE = f"""
    CASE WHEN quality IS DISTINCT FROM 'bad'
    THEN CAST(CAST({MICROS_SQL} AS DECIMAL(16, 0)) * 0.000001 AS DECIMAL(16, 6)) END"""


def summarize_readings(readings: DataFrame) -> DataFrame:
    """Counts and values of each window, sensor and kind.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `TELEMETRY_STATISTICS`. Values are
    summed as decimal, so that the result does not depend on the order of rows.
    """
    from pyspark.sql import functions as F

    return (
        readings.select("event_time", "sensor", "kind", F.expr(_VALUE).alias("value"))
        .groupBy(F.window("event_time", in_words(WINDOW)).alias("time_window"), "sensor", "kind")
        .agg(
            F.count("value").alias("readings"),
            F.count("*").alias("all_readings"),
            F.min("value").cast("double").alias("min_value"),
            F.max("value").cast("double").alias("max_value"),
            F.sum("value").alias("total_value"),
            F.sum(F.col("value") * F.col("value")).alias("total_of_squares"),
        )
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "sensor",
            "kind",
            F.expr(STANDARD_UNIT_SQL).alias("unit"),
            "readings",
            (F.col("all_readings") - F.col("readings")).alias("bad_readings"),
            "min_value",
            "max_value",
            F.try_divide(F.col("total_value").cast("double"), "readings").alias("mean_value"),
            F.col("total_value").cast("decimal(26,6)").alias("total_value"),
            F.col("total_of_squares").cast("decimal(38,12)").alias("total_of_squares"),
        )
    )


# The rows once more, for the check `parity`. A total becomes a double by its text: DuckDB rounds a long decimal twice.
RULE = f"""
    SELECT window_start, window_start + INTERVAL '5 minutes' AS window_end, sensor, kind,
           {STANDARD_UNIT_SQL} AS unit, count(good) AS readings, count(*) - count(good) AS bad_readings,
           CAST(min(good) AS DOUBLE) AS min_value, CAST(max(good) AS DOUBLE) AS max_value,
           CAST(CAST(sum(good) AS VARCHAR) AS DOUBLE) / nullif(count(good), 0) AS mean_value,
           CAST(sum(good) AS DECIMAL(26, 6)) AS total_value,
           CAST(sum(CAST(good AS DECIMAL(20, 6)) * good) AS DECIMAL(38, 12)) AS total_of_squares
    FROM (SELECT sensor, kind, time_bucket(INTERVAL '5 minutes', event_time) AS window_start, {_VALUE} AS good
          FROM events)
    GROUP BY window_start, sensor, kind"""

STREAM = TableStream(
    name="telemetry_statistics",
    source=TableSource(
        table=TELEMETRY,
        columns=("event_time", "sensor", "kind", "value", "unit", "quality"),
        time_column="event_time",
        # Gateways send in bundles of a minute or two.
        watermark_delay=timedelta(minutes=5),
    ),
    tables=(TELEMETRY_STATISTICS,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning.
    trigger_seconds=23.0,
    transform=summarize_readings,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan(
        "window_start", "window_end", reach=WINDOW, window=(WINDOW, WINDOW), by_user=True, user_column="sensor"
    ),
)
