"""gold.bandwidth_forecast: how many bytes each host will send in each hour of the next day, and how wrong that was.

The forecast of an hour is the median of what the host sent in the same hour of the last three same weekdays, or, where
fewer than three of them were seen, of the last seven days. A median does not follow the one day on which a host was
down, or much asked for.
"""

from __future__ import annotations

from datetime import timedelta

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sources import LOGS
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.access_logs import ACCESS_LOGS

DAYS_OF_DAILY = 7
WEEKS_OF_WEEKLY = 3
LEAST_WEEKS = 3
MEASURED_DAYS = 14
# The earliest of the measured days is foretold from the weeks before it.
HISTORY = MEASURED_DAYS - 1 + 7 * WEEKS_OF_WEEKLY

BANDWIDTH_FORECAST_TABLE = TableSpec(
    name="gold.bandwidth_forecast",
    description="Bytes that each host will send in each hour of the day after, with the error of such forecasts.",
    grain="one day, host and hour of the next day, of hosts that were seen in the week before",
    key=("report_date", "host", "hour"),
    columns=(
        Column("report_date", "date", "UTC day after which it was foretold; it is of the next", nullable=False),
        Column("host", "string", "Site of the requests; null where the server does not log it"),
        Column("hour", "int", "Hour of the next day, 0 to 23, UTC", nullable=False),
        Column("expected_bytes", "double", "Forecast of the bytes that the host sends in this hour", nullable=False),
        Column("naive_bytes", "double", "Bytes of the same hour on report_date; null: the host was not seen then"),
        Column("known_days", "bigint", "Days that the forecast is the median of", nullable=False),
        Column("measured_days", "bigint", "Days of the last two weeks that were foretold in both ways", nullable=False),
        Column("mean_error_bytes", "double", "Mean absolute error of the forecasts of this hour on those days"),
        Column("naive_error_bytes", "double", "The same of naive forecasts: as on the day before"),
        Column("mean_bytes", "double", "What was sent in this hour on those days, on average: to compare errors with"),
    ),
    partition_columns=("report_date",),
)  # fmt: skip

_LAGS = sorted({*range(1, DAYS_OF_DAILY + 1), *(7 * week for week in range(1, WEEKS_OF_WEEKLY + 1))})
_LAG_ROWS = ", ".join(f"({lag})" for lag in _LAGS)
_HOUR_ROWS = ", ".join(f"({hour})" for hour in range(24))
_BACK_ROWS = ", ".join(f"({back})" for back in range(MEASURED_DAYS))

# A day on which a host sent nothing at all is taken for one of which no line came: it is neither history nor measured.
# An hour without a line, of another day, has 0 bytes. Hosts may be null, so that sums over unions stand for joins.
_SQL = f"""
WITH hourly AS (
  SELECT host, CAST(window_start AS DATE) AS day, CAST(hour(window_start) AS INT) AS hour,
         CAST(sum(bytes_sent) AS DOUBLE) AS bytes
  FROM traffic_by_minute GROUP BY ALL
), filled AS (
  SELECT host, day, hour, max(bytes) AS bytes FROM (
    SELECT host, day, hour, bytes FROM hourly
    UNION ALL
    SELECT host, day, clock.hour, CAST(0 AS DOUBLE) FROM (SELECT DISTINCT host, day FROM hourly) AS seen
    CROSS JOIN (VALUES {_HOUR_ROWS}) AS clock(hour)
  ) AS both_kinds GROUP BY host, day, hour
), earlier AS (
  SELECT host, CAST(day + lag AS DATE) AS day, hour, lag, bytes FROM filled CROSS JOIN (VALUES {_LAG_ROWS}) AS lags(lag)
), foretold AS (
  SELECT host, day, hour, max(CASE WHEN lag = 1 THEN bytes END) AS naive_bytes,
         quantile_cont(CASE WHEN lag <= {DAYS_OF_DAILY} THEN bytes END, 0.5) AS daily,
         quantile_cont(CASE WHEN lag % 7 = 0 THEN bytes END, 0.5) AS weekly,
         count(CASE WHEN lag <= {DAYS_OF_DAILY} THEN 1 END) AS known_days,
         count(CASE WHEN lag % 7 = 0 THEN 1 END) AS known_weeks
  FROM earlier GROUP BY host, day, hour HAVING count(CASE WHEN lag <= {DAYS_OF_DAILY} THEN 1 END) > 0
), forecasts AS (
  SELECT host, day, hour, naive_bytes,
         CASE WHEN known_weeks >= {LEAST_WEEKS} THEN weekly ELSE daily END AS expected_bytes,
         CASE WHEN known_weeks >= {LEAST_WEEKS} THEN known_weeks ELSE known_days END AS known_days
  FROM foretold
), compared AS (
  SELECT host, day, hour, max(bytes) AS bytes, max(expected_bytes) AS expected_bytes, max(naive_bytes) AS naive_bytes
  FROM (
    SELECT host, day, hour, bytes, CAST(NULL AS DOUBLE) AS expected_bytes, CAST(NULL AS DOUBLE) AS naive_bytes
    FROM filled
    UNION ALL
    SELECT host, day, hour, CAST(NULL AS DOUBLE), expected_bytes, naive_bytes FROM forecasts
  ) AS all_days
  GROUP BY host, day, hour
), errors AS (
  SELECT host, CAST(day + back AS DATE) AS report_date, hour, count(*) AS measured_days,
         sum(abs(bytes - expected_bytes)) / count(*) AS mean_error_bytes,
         sum(abs(bytes - naive_bytes)) / count(*) AS naive_error_bytes, sum(bytes) / count(*) AS mean_bytes
  FROM compared CROSS JOIN (VALUES {_BACK_ROWS}) AS backs(back)
  WHERE bytes IS NOT NULL AND expected_bytes IS NOT NULL AND naive_bytes IS NOT NULL GROUP BY ALL
), parts AS (
  SELECT CAST(day - 1 AS DATE) AS report_date, host, hour, expected_bytes, naive_bytes, known_days,
         CAST(0 AS BIGINT) AS measured_days, CAST(NULL AS DOUBLE) AS mean_error_bytes,
         CAST(NULL AS DOUBLE) AS naive_error_bytes, CAST(NULL AS DOUBLE) AS mean_bytes FROM forecasts
  UNION ALL
  SELECT report_date, host, hour, NULL, NULL, NULL, measured_days, mean_error_bytes, naive_error_bytes, mean_bytes
  FROM errors
)
SELECT report_date, host, hour, max(expected_bytes) AS expected_bytes, max(naive_bytes) AS naive_bytes,
       max(known_days) AS known_days, max(measured_days) AS measured_days, max(mean_error_bytes) AS mean_error_bytes,
       max(naive_error_bytes) AS naive_error_bytes, max(mean_bytes) AS mean_bytes
FROM parts GROUP BY report_date, host, hour HAVING max(expected_bytes) IS NOT NULL
"""

BANDWIDTH_FORECAST = DailyReport(
    table=BANDWIDTH_FORECAST_TABLE,
    inputs=(
        ReportInput(TRAFFIC_BY_MINUTE, "window_start", before=timedelta(days=HISTORY), earlier=HISTORY),
        # The stream's table is in no partitions: the log of this one says of which days it has changed.
        ReportInput(ACCESS_LOGS, "event_date", earlier=HISTORY, is_read=False),
    ),
    sql=_SQL,
    source=LOGS,
)
