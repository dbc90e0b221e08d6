"""Alert `sensor_anomaly`: a sensor is out of range, silent or far from what is usual."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.tables.telemetry import TELEMETRY_ANOMALIES_TABLE

ALERT = AlertSpec(
    name="sensor_anomaly",
    description="The day's report has a critical anomaly of this sensor, kind and rule.",
    table=TELEMETRY_ANOMALIES_TABLE,
    condition="severity = 'critical'",
    key="concat_ws(' ', sensor, kind, rule)",
    text="concat_ws(': ', place, words)",
    severity=Severity.CRITICAL,
    owner="city",
    # It grows while the anomaly goes on, so that this hour's run raises the alert again.
    time_column="end_time",
    # The open day is computed each hour: one run may be missed.
    quiet=timedelta(hours=3),
    recomputed_within=timedelta(days=1),
    user="sensor",
)
