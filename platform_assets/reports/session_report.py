"""gold.session_report: how many sessions a day brought, how long they were and how many of them bought."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.days import DayRange
from platform_assets.reports.pictures import draw_sessions_by_hour
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.spec import Column, TableSpec

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


def summarize_sessions(sessions: DataFrame) -> DataFrame:
    """Sums sessions (rows of gold.sessions) up to rows of `SESSION_REPORT_TABLE`.

    A session belongs wholly to the day on which it started. A group exists only when it has a session, so no divisor
    is ever 0. Means are exact integer sums divided once: they do not depend on the order of the rows.
    """
    from pyspark.sql import functions as F

    key = (F.col("session_date").alias("report_date"), "device_type", "country")
    names = ("report_date", "device_type", "country")
    count = F.count(F.lit(1))
    bounced = F.count(F.when(F.col("event_count") == 1, F.lit(1)))
    converted = F.count(F.when(F.col("purchase_count") > 0, F.lit(1)))
    length_micros = F.unix_micros("session_end") - F.unix_micros("session_start")
    sums = sessions.groupBy(*key).agg(
        count.alias("sessions"),
        bounced.alias("bounced_sessions"),
        (bounced / count).alias("bounce_rate"),
        converted.alias("converted_sessions"),
        (converted / count).alias("conversion_rate"),
        F.sum(F.col("total_revenue").cast("decimal(28,2)")).cast("double").alias("total_revenue"),
        (F.sum(length_micros) / count / 1_000_000).alias("avg_duration_seconds"),
        F.percentile("duration_seconds", [0.5, 0.9]).alias("lengths"),
        (F.sum("event_count") / count).alias("avg_events"),
        (F.sum("unique_products") / count).alias("avg_products"),
    )
    # Apart: a distinct count beside percentiles makes Spark keep and merge a histogram for each user.
    users = sessions.select(*key, "user_id").distinct().groupBy(*names).agg(count.alias("users"))
    # Null is a group like any other.
    same = [F.col(f"s.{name}").eqNullSafe(F.col(f"u.{name}")) for name in names]
    return (
        sums.alias("s")
        .join(users.alias("u"), same)
        .select("s.*", "u.users")
        .withColumns({"p50_duration_seconds": F.col("lengths")[0], "p90_duration_seconds": F.col("lengths")[1]})
        .select(*(column.name for column in SESSION_REPORT_TABLE.columns))
    )


def count_sessions_by_hour(sessions: DataFrame) -> dict[date, list[int]]:
    """By the day of their start, sessions by UTC hour of it: 24 numbers."""
    from pyspark.sql import functions as F

    counts: dict[date, list[int]] = {}
    hours = sessions.groupBy("session_date", F.hour("session_start").alias("hour")).agg(F.count(F.lit(1)).alias("n"))
    for row in hours.collect():
        counts.setdefault(row["session_date"], [0] * 24)[row["hour"]] = row["n"]
    return counts


def _read_sessions_of(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    return inputs[SESSIONS.name].where(days.predicate("session_date"))


def _compute(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    return summarize_sessions(_read_sessions_of(inputs, days))


def _draw(inputs: Mapping[str, DataFrame], days: DayRange) -> dict[date, tuple[str, str]]:
    counts = count_sessions_by_hour(_read_sessions_of(inputs, days))
    return {
        day: ("sessions_by_hour", draw_sessions_by_hour(counts.get(day, [0] * 24), str(day))) for day in days.days()
    }


SESSION_REPORT = DailyReport(table=SESSION_REPORT_TABLE, inputs=(ReportInput(SESSIONS),), compute=_compute, draw=_draw)
