"""gold.early_warning_scores: the National Early Warning Score of each patient and hour, as far as it is known.

NEWS2 is a table of the Royal College of Physicians (National Early Warning Score (NEWS) 2: Standardising the assessment
of acute-illness severity in the NHS, London 2017), here with its first scale of oxygen saturation. This is a report
of a data platform and no medical device: nobody may treat a patient by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sources import SENSORS
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE
from platform_assets.topics.telemetry import MICROS_SQL, TELEMETRY

# By kind: the points of a value that is at most the limit, from the least limit on; None: of any greater value.
POINTS: Mapping[str, Sequence[tuple[float | None, int]]] = {
    "respiration_rate": ((8, 3), (11, 1), (20, 0), (24, 2), (None, 3)),
    "oxygen_saturation": ((91, 3), (93, 2), (95, 1), (None, 0)),
    "oxygen_flow": ((0, 0), (None, 2)),
    "systolic_pressure": ((90, 3), (100, 2), (110, 1), (219, 0), (None, 3)),
    "heart_rate": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (None, 3)),
    "consciousness": ((0, 0), (None, 3)),
    "body_temperature": ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (None, 2)),
}
# The table is in whole numbers, a temperature has one digit more. Of oxygen any flow counts, however small.
_ROUNDED_TO: Mapping[str, int] = dict.fromkeys(POINTS, 1000000) | {"body_temperature": 100_000, "oxygen_flow": 1}


def _score(kind: str) -> str:
    """SQL: the points of a kind's `micros`, rounded half up to what the table is in; null for no value."""
    unit = _ROUNDED_TO[kind]
    rounded = f"CAST(floor(CAST(micros AS DOUBLE) / {unit}.0 + 0.5) AS BIGINT)"
    limits = [(None if limit is None else round(limit * 1_000_000 / unit), points) for limit, points in POINTS[kind]]
    cases = " ".join(f"WHEN {rounded} <= {limit} THEN {points}" for limit, points in limits[:-1])
    return f"max(CASE WHEN kind = '{kind}' THEN CASE {cases} ELSE {limits[-1][1]} END END) AS {kind}_points"


_KINDS = ", ".join(f"'{kind}'" for kind in POINTS)
_NAMES = [f"{kind}_points" for kind in POINTS]
_MISSING = " || ".join(f"CASE WHEN {kind}_points IS NULL THEN ',{kind}' ELSE '' END" for kind in sorted(POINTS))

_SQL = f"""
WITH vitals AS (
  SELECT event_date AS report_date, sensor, kind, place, event_time, date_trunc('hour', event_time) AS hour_start,
         max({MICROS_SQL}) AS micros
  FROM telemetry WHERE kind IN ({_KINDS}) AND quality IS DISTINCT FROM 'bad'
  GROUP BY event_date, sensor, kind, place, event_time
), ordered AS (
  SELECT *, row_number() OVER (
    PARTITION BY sensor, kind, hour_start ORDER BY event_time DESC, micros DESC, coalesce(place, '') DESC
  ) AS age
  FROM vitals
), hours AS (
  SELECT report_date, sensor, hour_start, max(place) AS place, {", ".join(map(_score, POINTS))}
  FROM ordered WHERE age = 1 GROUP BY report_date, sensor, hour_start
), summed AS (
  SELECT *, {" + ".join(f"coalesce({name}, 0)" for name in _NAMES)} AS score,
         {" + ".join(f"CASE WHEN {name} IS NULL THEN 0 ELSE 1 END" for name in _NAMES)} AS known_signs,
         substr({_MISSING}, 2) AS missing_signs,
         {" OR ".join(f"coalesce({name}, 0) = 3" for name in _NAMES)} AS has_red_sign
  FROM hours
)
SELECT report_date, sensor, hour_start, place, {", ".join(_NAMES)}, score, known_signs, missing_signs, has_red_sign,
       CASE WHEN score >= 7 THEN 'high' WHEN score >= 5 THEN 'medium' WHEN has_red_sign THEN 'low-medium'
            ELSE 'low' END AS risk
FROM summed
"""

EARLY_WARNING_SCORES = DailyReport(
    table=EARLY_WARNING_SCORES_TABLE,
    inputs=(ReportInput(TELEMETRY, "event_date"),),
    sql=_SQL,
    source=SENSORS,
)
