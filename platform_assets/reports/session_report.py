"""gold.session_report: how many sessions a day brought, how long they were and how many of them bought."""

from __future__ import annotations

from platform_assets.reports.daily_report import DailyReport, Picture, ReportInput
from platform_assets.reports.pictures import draw_sessions_by_hour
from platform_assets.reports.report_sql import BY_CURRENCY, join_amounts, read_amounts, total_of
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.spec import Column, TableSpec

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
        Column("total_revenue", "double", "Revenue of the sessions; null: several currencies, or none known"),
        Column("avg_duration_seconds", "double", "Mean length of a session", nullable=False),
        Column("p50_duration_seconds", "double", "Median length, interpolated", nullable=False),
        Column("p90_duration_seconds", "double", "90th percentile of the length, interpolated", nullable=False),
        Column("avg_events", "double", "Mean number of events in a session", nullable=False),
        Column("avg_products", "double", "Mean number of distinct products viewed in a session", nullable=False),
        Column("currency", "string", "Currency of total_revenue; null where none was sent"),
        Column("revenue_by_currency", "string", "JSON: revenue by currency, as decimals in text"),
        Column("purchases_without_amount", "bigint", "Purchases whose amount is not known"),
    ),
    partition_columns=("report_date",),
)


# A session belongs wholly to the day on which it started. A group exists only when it has a session, so no divisor is
# ever 0. Means are exact integer sums divided once: they do not depend on the order of the rows.
_SQL = f"""
WITH amounts AS ({read_amounts("sessions", "session_date, device_type, country")}
), money AS ({join_amounts("amounts", "session_date, device_type, country")}
), counted AS (
  SELECT session_date, device_type, country,
         count(*) AS sessions,
         count(DISTINCT user_id) AS users,
         count(*) FILTER (WHERE event_count = 1) AS bounced_sessions,
         count(*) FILTER (WHERE event_count = 1) / count(*) AS bounce_rate,
         count(*) FILTER (WHERE purchase_count > 0) AS converted_sessions,
         count(*) FILTER (WHERE purchase_count > 0) / count(*) AS conversion_rate,
         CAST(sum(COALESCE(purchases_without_amount, 0)) AS BIGINT) AS purchases_without_amount,
         CAST(sum(epoch_us(session_end) - epoch_us(session_start)) AS BIGINT) / count(*) / 1000000
           AS avg_duration_seconds,
         quantile_cont(duration_seconds, 0.5) AS p50_duration_seconds,
         quantile_cont(duration_seconds, 0.9) AS p90_duration_seconds,
         CAST(sum(event_count) AS BIGINT) / count(*) AS avg_events,
         CAST(sum(unique_products) AS BIGINT) / count(*) AS avg_products
  FROM sessions
  GROUP BY ALL
)
SELECT counted.session_date AS report_date, counted.device_type, counted.country, sessions, users, bounced_sessions,
       bounce_rate, converted_sessions, conversion_rate, {total_of("purchases_without_amount")} AS total_revenue,
       avg_duration_seconds, p50_duration_seconds, p90_duration_seconds, avg_events, avg_products, currency,
       {BY_CURRENCY} AS revenue_by_currency, purchases_without_amount
FROM counted
LEFT JOIN money ON money.session_date = counted.session_date
  AND money.device_type IS NOT DISTINCT FROM counted.device_type
  AND money.country IS NOT DISTINCT FROM counted.country
"""

_BY_HOUR = """
SELECT session_date AS day, hour(session_start) AS position, count(*) AS n FROM sessions GROUP BY ALL
"""

SESSION_REPORT = DailyReport(
    table=SESSION_REPORT_TABLE,
    inputs=(ReportInput(SESSIONS, "session_date"),),
    sql=_SQL,
    picture=Picture("sessions_by_hour", _BY_HOUR, 24, draw_sessions_by_hour),
)
