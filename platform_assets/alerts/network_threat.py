"""Alert `network_threat`: a network guesses passwords, looks for holes, or asks for too much."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE

ALERT = AlertSpec(
    name="network_threat",
    description="The day's report has this network, by this rule.",
    table=NETWORK_THREATS_TABLE,
    condition="true",
    key="concat_ws(' ', network, rule)",
    text="words",
    severity=Severity.WARNING,
    owner="security",
    # It grows while the network goes on, so that this hour's run raises the alert again.
    time_column="last_at",
    # The open day is computed each hour: one run may be missed.
    quiet=timedelta(hours=3),
    recomputed_within=timedelta(days=1),
    user="network",
)
