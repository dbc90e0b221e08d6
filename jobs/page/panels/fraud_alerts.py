"""Panel `fraud_alerts`: the card payments that were taken for fraud last, without whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS

_MOST = 6

_ALERTS = Kept(
    name="alerts",
    table=FRAUD_ALERTS,
    time_column="event_time",
    find_since=lambda newest: newest - timedelta(days=1),
    sql="""
        SELECT event_time AS moment, scored_at, score_id, score, amount, currency, merchant_id, country,
               reasons[1] AS reason
        FROM file_rows WHERE event_time >= $since""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The newest alerts, and how many came in a day."""
    newest = given.newest["alerts"] or given.now
    [found] = given.ask(
        "SELECT count(*) AS alerts FROM alerts WHERE moment >= $since AND moment <= $now",
        now=given.now, since=newest - timedelta(days=1),
    )  # fmt: skip
    alerts = given.ask(
        "SELECT * FROM alerts WHERE moment <= $now ORDER BY scored_at DESC, score_id LIMIT $most",
        now=given.now,
        most=_MOST,
    )
    return {"now": given.now, "count_of_day": found["alerts"], "alerts": alerts}


PANEL = Panel(name="fraud_alerts", title="Fraud alerts", order=45, build=build, kept=(_ALERTS,))
