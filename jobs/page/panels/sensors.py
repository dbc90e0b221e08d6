"""Panel `sensors`: which kinds of readings come, from how many sensors. Without the sensors, which may be patients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.telemetry_statistics import TELEMETRY_STATISTICS

_MOST = 8
_HOUR = timedelta(hours=1)

_WINDOWS = Kept(
    name="sensor_windows",
    table=TELEMETRY_STATISTICS,
    time_column="window_start",
    find_since=lambda newest: newest - _HOUR,
    sql="""
        SELECT window_start AS moment, sensor, kind, unit AS measured_in, readings, bad_readings, total_value
        FROM file_rows WHERE window_start >= $since""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The kinds of the last hour with the most sensors, and how many kinds there are beyond those shown."""
    newest = given.newest["sensor_windows"]
    if newest is None:
        return {"kinds": []}
    kinds = given.ask(
        """SELECT kind, any_value(measured_in) AS unit, count(DISTINCT sensor) AS sensors,
                  CAST(sum(readings + bad_readings) AS BIGINT) AS readings, CAST(sum(bad_readings) AS BIGINT) AS bad,
                  CAST(sum(total_value) AS DOUBLE) / nullif(sum(readings), 0) AS mean
           FROM sensor_windows WHERE moment > $since AND moment <= $now
           GROUP BY kind ORDER BY sensors DESC, kind""",
        now=given.now, since=newest - _HOUR,
    )  # fmt: skip
    return {"now": given.now, "until": newest, "kinds": kinds[:_MOST], "more": max(0, len(kinds) - _MOST)}


PANEL = Panel(name="sensors", title="Sensors", order=64, build=build, kept=(_WINDOWS,))
