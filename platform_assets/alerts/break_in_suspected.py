"""Alert `break_in_suspected`: a network that guessed passwords has logged in."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE

ALERT = AlertSpec(
    name="break_in_suspected",
    description="A network has logged in after it had guessed too many passwords on the same day.",
    table=NETWORK_THREATS_TABLE,
    condition="logged_in_at IS NOT NULL",
    key="network",
    text="concat('logged in at ', strftime(logged_in_at, '%Y-%m-%d %H:%M:%S'), ' UTC after ', words)",
    severity=Severity.CRITICAL,
    owner="security",
    time_column="logged_in_at",
    quiet=timedelta(days=1),
    recomputed_within=timedelta(days=1),
    user="network",
)
