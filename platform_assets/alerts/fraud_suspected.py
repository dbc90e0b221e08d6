"""Alert `fraud_suspected`: a card whose transactions look like fraud to the model."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS

ALERT = AlertSpec(
    name="fraud_suspected",
    description="The fraud model has scored a transaction of the card beyond its threshold.",
    table=FRAUD_ALERTS,
    condition="true",
    key="coalesce(card_id, score_id)",
    text="""concat(kind, ' of ', coalesce(amount::VARCHAR, 'an unknown amount'), ' ', currency, ' in ',
            coalesce(country, 'an unknown country'), ', score ', round(score, 3), ': ',
            array_to_string(reasons, '; '))""",
    severity=Severity.CRITICAL,
    owner="fraud",
    time_column="event_time",
    # Who works through stolen cards goes on within minutes: an hour of silence is the end of it.
    quiet=timedelta(hours=1),
    user="customer_id",
)
