"""Alert `events_refused`: records of the shop break the contract, by reason."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.topics.events import QUARANTINED_EVENTS

ALERT = AlertSpec(
    name="events_refused",
    description="Records of the shop's events are quarantined for this reason. headrace requeue shows them.",
    table=QUARANTINED_EVENTS,
    condition="true",
    key="reason",
    # Without what the record says, which may be of a person.
    text="concat('records of ', topic, ' are quarantined: ', reason)",
    severity=Severity.WARNING,
    owner="data-platform",
    time_column="quarantined_at",
    quiet=timedelta(minutes=15),
    # A sender with a fault that comes and goes would open one every quarter of an hour.
    cool_down=timedelta(minutes=15),
)
