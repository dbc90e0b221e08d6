"""gold.telemetry_anomalies: what was wrong with a day's readings, by rules whose thresholds people edit.

All is computed in whole millionths of a kind's standard unit: medians of these are exact in any engine, and so is each
comparison with a threshold. A day depends on itself and on the seven days before it, and on nothing else that a run
may have read: so each rule looks back by a fixed time, however many days a run computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sources import SENSORS
from platform_assets.reports.telemetry_thresholds import Threshold, load_thresholds
from platform_assets.tables.telemetry import TELEMETRY_ANOMALIES_TABLE
from platform_assets.topics.telemetry import MICROS_SQL, STANDARD_UNIT_SQL, TELEMETRY
from resources.settings import load_settings

# A city's week repeats itself: with fewer days a Monday would be compared with the weekend alone.
USUAL_DAYS = 7
# One day of which an hour is known is no custom.
LEAST_USUAL_DAYS = 3
LEAST_SPEAKING_DAYS = 2
# The temperature of a morning is not that of the afternoon: more hours would hide a jump in the day's own course.
RECENT_HOURS = 3
# The median deviation of a few readings is a matter of luck.
LEAST_RECENT = 12
# With fewer readings on each side two wrong ones in a row would look like a new level.
STEP_READINGS = 8
LEAST_EQUAL = 5
# 1.4826 median deviations are one sigma of normal noise. Of a million such readings not one is six sigma away.
SIGMA = 1.4826
UNUSUAL_SIGMAS, CRITICAL_SIGMAS = 6.0, 12.0
# A radio link loses a few readings in a row each day.
SILENT_PAUSES, CRITICAL_PAUSES = 10.0, 40.0

HOUR_MICROS = 3_600_000_000
DAY_MICROS = 24 * HOUR_MICROS


def in_micros(number: float | None, factor: int = 1_000_000) -> int | None:
    """A threshold in whole millionths, or by another factor; None stays None."""
    return None if number is None else round(number * factor)


def build_anomalies_sql(thresholds: Sequence[Threshold]) -> str:
    """The report's query, with these thresholds in it."""
    rows = []
    for each in thresholds:
        minute = 60_000_000
        numbers = {
            "low": in_micros(each.low),
            "high": in_micros(each.high),
            "step": in_micros(each.step),
            "least_deviation": in_micros(each.least_deviation),
            "stuck_micros": in_micros(each.stuck_minutes, minute),
            "silence_micros": in_micros(each.silence_minutes, minute),
        }
        cells = [f"CAST({'NULL' if n is None else n} AS BIGINT) AS {name}" for name, n in numbers.items()]
        rows.append(f"SELECT '{each.kind}' AS kind, {', '.join(cells)}")
    return f"WITH thresholds AS ({' UNION ALL '.join(rows)}),{_SQL}"


def _spell(milli: str) -> str:
    """SQL: thousandths as a text with three digits behind the point, alike in all engines."""
    whole = f"CAST(abs({milli}) // 1000 AS VARCHAR) || '.' || lpad(CAST(abs({milli}) % 1000 AS VARCHAR), 3, '0')"
    return f"(CASE WHEN {milli} < 0 THEN '-' ELSE '' END || {whole})"


_SERIES = "PARTITION BY sensor, kind ORDER BY moment"
_OF_A_DAY = f"PARTITION BY sensor, kind, run ORDER BY moment RANGE BETWEEN {DAY_MICROS} PRECEDING AND CURRENT ROW"
_EPISODE = "PARTITION BY report_date, sensor, kind, rule, island"
_BACK = " UNION ALL ".join(f"SELECT {hour} AS back" for hour in range(1, RECENT_HOURS + 1))
_FAR = "abs(micros - {0}_middle) > " + str(UNUSUAL_SIGMAS) + " * {0}_scale"
_UNUSUAL = f"""least_deviation IS NOT NULL AND CASE WHEN recent_middle IS NULL THEN {_FAR.format("usual")}
    ELSE {_FAR.format("recent")} AND (usual_middle IS NULL OR {_FAR.format("usual")}) END"""

# Of each rule: when it is true of a reading, since when, what is compared with what, and when that is critical.
_MIDDLE = "coalesce(recent_middle, usual_middle)"
_RULES = {
    "out_of_range": {
        "holds": "coalesce(micros < low, false) OR coalesce(micros > high, false)",
        "since": "event_time",
        "value": "CAST(micros AS DOUBLE)",
        "expected": "CAST(CASE WHEN micros < low THEN low ELSE high END AS DOUBLE)",
        "critical": "true",
    },
    "stuck": {
        "holds": f"equals >= {LEAST_EQUAL} AND moment - equal_at >= stuck_micros",
        "since": "equal_since",
        "value": "CAST(micros AS DOUBLE)",
        "expected": "CAST(NULL AS DOUBLE)",
        "critical": "false",
    },
    "step": {
        "holds": f"before_at >= moment - {DAY_MICROS} AND abs(level_after - level_before) >= step",
        "since": "after_since",
        "value": "CAST(level_after AS DOUBLE)",
        "expected": "CAST(level_before AS DOUBLE)",
        "critical": "false",
    },
    "unusual": {
        "holds": _UNUSUAL,
        "since": "event_time",
        "value": "CAST(micros AS DOUBLE)",
        "expected": f"CAST({_MIDDLE} AS DOUBLE)",
        "critical": f"abs(micros - {_MIDDLE}) > {CRITICAL_SIGMAS}"
        " * CASE WHEN recent_middle IS NULL THEN usual_scale ELSE recent_scale END",
    },
}
_NAMES = " UNION ALL ".join(f"SELECT '{rule}' AS rule" for rule in _RULES)


def _by_rule(column: str) -> str:
    """SQL: the column of each rule."""
    return f"CASE rule {' '.join(f'WHEN {name!r} THEN {each[column]}' for name, each in _RULES.items())} END"


# One reading a moment: a gateway that repeats one hours later, beyond the horizon of deduplication, adds nothing. Of
# several values the greatest counts, and a bad one only where there is no other.
_SQL = f"""
measured AS (
  SELECT sensor, kind, event_time, epoch_us(event_time) AS moment, max(place) AS place,
         max(CASE WHEN quality IS DISTINCT FROM 'bad' THEN {MICROS_SQL} END) AS micros
  FROM telemetry GROUP BY sensor, kind, event_time
), near AS (
  SELECT * FROM measured
  WHERE micros IS NOT NULL AND moment >= (SELECT min(start_micros) FROM report_days) - {DAY_MICROS}
), scanned AS (
  SELECT *, lag(micros) OVER ({_SERIES}) AS previous,
         lag(moment, {2 * STEP_READINGS - 1}) OVER ({_SERIES}) AS before_at,
         lag(event_time, {STEP_READINGS - 1}) OVER ({_SERIES}) AS after_since,
         quantile_cont(micros, 0.5) OVER ({_SERIES} ROWS BETWEEN {2 * STEP_READINGS - 1} PRECEDING
                                          AND {STEP_READINGS} PRECEDING) AS level_before,
         quantile_cont(micros, 0.5) OVER ({_SERIES} ROWS BETWEEN {STEP_READINGS - 1} PRECEDING
                                          AND CURRENT ROW) AS level_after
  FROM near
), runs AS (
  SELECT *, sum(CASE WHEN micros = previous THEN 0 ELSE 1 END) OVER ({_SERIES}) AS run FROM scanned
), equal_readings AS (
  SELECT *, count(*) OVER ({_OF_A_DAY}) AS equals, min(moment) OVER ({_OF_A_DAY}) AS equal_at,
         min(event_time) OVER ({_OF_A_DAY}) AS equal_since
  FROM runs
), of_days AS (
  SELECT e.*, d.report_date, e.moment // {HOUR_MICROS} AS hour,
         row_number() OVER (PARTITION BY e.sensor, e.kind, d.report_date ORDER BY e.moment) AS number
  FROM equal_readings e JOIN report_days d ON e.moment // {DAY_MICROS} * {DAY_MICROS} = d.start_micros
), hours AS (
  SELECT DISTINCT sensor, kind, hour FROM of_days
), recent_readings AS (
  SELECT h.sensor, h.kind, h.hour, n.micros
  FROM hours h JOIN (
    SELECT sensor, kind, micros, moment // {HOUR_MICROS} + back AS hour FROM near CROSS JOIN ({_BACK}) AS o
  ) AS n ON h.sensor = n.sensor AND h.kind = n.kind AND h.hour = n.hour
), recent_medians AS (
  SELECT sensor, kind, hour, quantile_cont(micros, 0.5) AS middle
  FROM recent_readings GROUP BY sensor, kind, hour HAVING count(*) >= {LEAST_RECENT}
), recent AS (
  SELECT m.sensor, m.kind, m.hour, m.middle, quantile_cont(abs(r.micros - m.middle), 0.5) AS deviation
  FROM recent_medians m
  JOIN recent_readings r ON r.sensor = m.sensor AND r.kind = m.kind AND r.hour = m.hour
  GROUP BY m.sensor, m.kind, m.hour, m.middle
), hour_medians AS (
  SELECT sensor, kind, moment // {HOUR_MICROS} AS hour, quantile_cont(micros, 0.5) AS middle
  FROM measured WHERE micros IS NOT NULL GROUP BY sensor, kind, moment // {HOUR_MICROS}
), usual_hours AS (
  SELECT h.sensor, h.kind, h.hour, m.middle
  FROM hours h JOIN hour_medians m ON h.sensor = m.sensor AND h.kind = m.kind AND h.hour % 24 = m.hour % 24
  WHERE h.hour - m.hour BETWEEN 24 AND {24 * USUAL_DAYS}
), usual_medians AS (
  SELECT sensor, kind, hour, quantile_cont(middle, 0.5) AS middle
  FROM usual_hours GROUP BY sensor, kind, hour HAVING count(*) >= {LEAST_USUAL_DAYS}
), usual AS (
  SELECT m.sensor, m.kind, m.hour, m.middle, quantile_cont(abs(u.middle - m.middle), 0.5) AS deviation
  FROM usual_medians m JOIN usual_hours u ON u.sensor = m.sensor AND u.kind = m.kind AND u.hour = m.hour
  GROUP BY m.sensor, m.kind, m.hour, m.middle
), judged AS (
  SELECT d.*, t.low, t.high, t.step, t.least_deviation, t.stuck_micros,
         r.middle AS recent_middle, greatest({SIGMA} * r.deviation, CAST(t.least_deviation AS DOUBLE)) AS recent_scale,
         u.middle AS usual_middle, greatest({SIGMA} * u.deviation, CAST(t.least_deviation AS DOUBLE)) AS usual_scale
  FROM of_days d JOIN thresholds t ON d.kind = t.kind
  LEFT JOIN recent r ON d.sensor = r.sensor AND d.kind = r.kind AND d.hour = r.hour
  LEFT JOIN usual u ON d.sensor = u.sensor AND d.kind = u.kind AND d.hour = u.hour
), flags AS (
  SELECT report_date, sensor, kind, rule, number, event_time, place, {_by_rule("since")} AS since,
         {_by_rule("value")} AS value, {_by_rule("expected")} AS expected,
         CASE WHEN {_by_rule("critical")} THEN 1 ELSE 0 END AS critical
  FROM judged CROSS JOIN ({_NAMES}) AS r
  WHERE {_by_rule("holds")}
), islands AS (
  SELECT *, number - row_number() OVER (PARTITION BY report_date, sensor, kind, rule ORDER BY number) AS island
  FROM flags
), ranked AS (
  SELECT report_date, sensor, kind, rule, value, expected,
         min(since) OVER ({_EPISODE}) AS start_time, max(event_time) OVER ({_EPISODE}) AS end_time,
         max(place) OVER ({_EPISODE}) AS place, count(*) OVER ({_EPISODE}) AS readings,
         max(critical) OVER ({_EPISODE}) AS critical,
         row_number() OVER ({_EPISODE} ORDER BY coalesce(abs(value - expected), 0.0) DESC, number) AS rank
  FROM islands
), spoken AS (
  SELECT sensor, kind, place, event_time, moment, moment // {DAY_MICROS} AS day,
         lag(moment) OVER ({_SERIES}) AS previous_at, lag(event_time) OVER ({_SERIES}) AS previous_time
  FROM measured
), pauses AS (
  SELECT sensor, kind, day, max(place) AS place, max(event_time) AS last_time,
         quantile_cont(CASE WHEN previous_at // {DAY_MICROS} = day THEN moment - previous_at END, 0.5) AS pause
  FROM spoken GROUP BY sensor, kind, day
), known AS (
  SELECT d.report_date, d.start_micros, p.sensor, p.kind, max(p.place) AS place, max(p.last_time) AS last_time
  FROM report_days d JOIN pauses p ON d.start_micros // {DAY_MICROS} - p.day BETWEEN 0 AND {USUAL_DAYS}
  GROUP BY d.report_date, d.start_micros, p.sensor, p.kind
), usual_pauses AS (
  SELECT d.report_date, p.sensor, p.kind, quantile_cont(p.pause, 0.5) AS pause
  FROM report_days d JOIN pauses p ON d.start_micros // {DAY_MICROS} - p.day BETWEEN 1 AND {USUAL_DAYS}
  WHERE p.pause IS NOT NULL
  GROUP BY d.report_date, p.sensor, p.kind HAVING count(*) >= {LEAST_SPEAKING_DAYS}
), newest AS (
  SELECT day, max(event_time) AS event_time FROM spoken GROUP BY day
), gaps AS (
  SELECT d.report_date, s.sensor, s.kind, s.previous_time AS start_time, s.event_time AS end_time
  FROM spoken s JOIN report_days d ON s.day * {DAY_MICROS} = d.start_micros
  WHERE s.previous_at >= d.start_micros - {USUAL_DAYS * DAY_MICROS}
  UNION ALL
  SELECT k.report_date, k.sensor, k.kind, k.last_time, n.event_time
  FROM known k JOIN newest n ON n.day * {DAY_MICROS} = k.start_micros
), silences AS (
  SELECT g.report_date, g.sensor, g.kind, 'silence' AS rule, g.start_time, g.end_time, k.place,
         CAST(0 AS BIGINT) AS readings, CAST(epoch_us(g.end_time) - epoch_us(g.start_time) AS DOUBLE) AS value,
         p.pause AS expected, CAST(t.silence_micros AS DOUBLE) AS silence_micros
  FROM gaps g
  JOIN known k ON g.report_date = k.report_date AND g.sensor = k.sensor AND g.kind = k.kind
  JOIN usual_pauses p ON g.report_date = p.report_date AND g.sensor = p.sensor AND g.kind = p.kind
  JOIN thresholds t ON g.kind = t.kind
), anomalies AS (
  SELECT report_date, sensor, kind, rule, start_time, end_time, place, readings, value, expected,
         {STANDARD_UNIT_SQL} AS unit, critical
  FROM ranked WHERE rank = 1
  UNION ALL
  SELECT report_date, sensor, kind, rule, start_time, end_time, place, readings, value, expected, 's' AS unit,
         CASE WHEN value > {CRITICAL_PAUSES} * expected AND value > 4.0 * silence_micros THEN 1 ELSE 0 END AS critical
  FROM silences WHERE value > greatest({SILENT_PAUSES} * expected, silence_micros) AND silence_micros IS NOT NULL
), spelled AS (
  SELECT *, CAST(floor(value / 1000.0 + 0.5) AS BIGINT) AS value_milli,
         CAST(floor(expected / 1000.0 + 0.5) AS BIGINT) AS expected_milli,
         CAST((epoch_us(end_time) - epoch_us(start_time)) // 60000000 AS VARCHAR) AS minutes
  FROM anomalies
)
SELECT report_date, sensor, kind, rule, start_time, end_time, place, readings, value / 1000000.0 AS value,
       expected / 1000000.0 AS expected, unit, CASE WHEN critical = 1 THEN 'critical' ELSE 'warning' END AS severity,
       CASE rule
         WHEN 'out_of_range' THEN {_spell("value_milli")} || ' ' || unit
           || CASE WHEN value < expected THEN ', below ' ELSE ', above ' END || {_spell("expected_milli")}
         WHEN 'stuck' THEN {_spell("value_milli")} || ' ' || unit || ' for ' || minutes || ' minutes'
         WHEN 'step' THEN 'from ' || {_spell("expected_milli")} || ' to ' || {_spell("value_milli")} || ' ' || unit
         WHEN 'unusual' THEN {_spell("value_milli")} || ' ' || unit || ' where ' || {_spell("expected_milli")}
           || ' is usual'
         ELSE 'silent for ' || minutes || ' minutes, usually a reading each ' || {_spell("expected_milli")} || ' s'
       END AS words
FROM spelled
"""  # fmt: skip


def _build_sql() -> str:
    return build_anomalies_sql(load_thresholds(load_settings().telemetry_thresholds))


TELEMETRY_ANOMALIES = DailyReport(
    table=TELEMETRY_ANOMALIES_TABLE,
    inputs=(ReportInput(TELEMETRY, "event_time", before=timedelta(days=USUAL_DAYS), earlier=USUAL_DAYS),),
    sql="",
    build_sql=_build_sql,
    source=SENSORS,
)
