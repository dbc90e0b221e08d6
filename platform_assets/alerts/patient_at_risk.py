"""Alert `patient_at_risk`: a patient whose early-warning score is high. No medical device."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE

ALERT = AlertSpec(
    name="patient_at_risk",
    description="The early-warning score of the patient's hour is 7 or more. No medical device.",
    table=EARLY_WARNING_SCORES_TABLE,
    condition="risk = 'high'",
    key="sensor",
    # With the day: the hour may be yesterday's, where a report comes late.
    text="""concat('score ', score, ' of 20 in the hour from ', strftime(hour_start, '%Y-%m-%d %H:%M'), ' UTC; ',
            known_signs, ' of 7 signs are known')""",
    severity=Severity.CRITICAL,
    owner="ward",
    time_column="hour_start",
    # Without `over`: an earlier hour that is computed again, for a late reading, would close what a later one opened.
    quiet=timedelta(hours=3),
    recomputed_within=timedelta(days=1),
    user="sensor",
)
