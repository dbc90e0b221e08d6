"""Panel `anomalies`: what was wrong with sensors, and patients at risk. Without either's name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE, TELEMETRY_ANOMALIES_TABLE

_MOST = 6
_DAY = timedelta(days=1)

_ANOMALIES = Kept(
    name="sensor_anomalies",
    table=TELEMETRY_ANOMALIES_TABLE,
    time_column="end_time",
    find_since=lambda newest: newest - _DAY,
    sql="""
        SELECT end_time AS moment, kind, rule, place, severity FROM file_rows WHERE end_time >= $since""",
)
_SCORES = Kept(
    name="patient_hours",
    table=EARLY_WARNING_SCORES_TABLE,
    time_column="hour_start",
    find_since=lambda newest: newest - _DAY,
    sql="SELECT hour_start AS moment, sensor, risk FROM file_rows WHERE hour_start >= $since",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The day's newest anomalies, the critical ones first, and how many patients are at which risk."""
    newest = given.newest["sensor_anomalies"] or given.now
    rows = given.ask(
        """SELECT kind, rule, severity, place, max(moment) AS newest, count(*) AS episodes FROM sensor_anomalies
           WHERE moment >= $since AND moment <= $now GROUP BY kind, rule, severity, place
           ORDER BY severity, newest DESC, kind, rule, place LIMIT $most""",
        now=given.now, since=newest - _DAY, most=_MOST,
    )  # fmt: skip
    [counted] = given.ask(
        "SELECT count(*) AS episodes FROM sensor_anomalies WHERE moment >= $since AND moment <= $now",
        now=given.now, since=newest - _DAY,
    )  # fmt: skip
    [patients] = given.ask(
        """SELECT count(*) AS patients, count(*) FILTER (risk = 'high') AS high,
                  count(*) FILTER (risk = 'medium') AS medium
           FROM (SELECT arg_max(risk, moment) AS risk FROM patient_hours
                 WHERE moment >= $since AND moment <= $now GROUP BY sensor)""",
        now=given.now, since=(given.newest["patient_hours"] or given.now) - _DAY,
    )  # fmt: skip
    return {"now": given.now, "rows": rows, "episodes": counted["episodes"], **patients}


PANEL = Panel(name="anomalies", title="Anomalies", order=66, build=build, kept=(_ANOMALIES, _SCORES))
