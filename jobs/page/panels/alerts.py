"""Panel `alerts`: what somebody must look at, the most severe first. Without keys, which may be of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.tables.platform import ALERTS

_MOST = 8

_TRANSITIONS = Kept(
    name="transitions",
    table=ALERTS,
    sql="""SELECT alert_id, alert, severity, owner, transition, "at" AS happened_at FROM file_rows
        WHERE transition <> 'repeated'""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The open alerts by kind, and how many kinds there are beyond those shown."""
    kinds = given.ask(
        """
        WITH alerts AS (
            SELECT alert_id, any_value(alert) AS alert, any_value(severity) AS severity, any_value(owner) AS owner,
                   min(happened_at) AS opened_at,
                   bool_or(transition = 'acknowledged') AS is_looked_at
            FROM transitions GROUP BY alert_id HAVING NOT bool_or(transition = 'closed')
        )
        SELECT alert, severity, owner, count(*) AS open, count(*) FILTER (NOT is_looked_at) AS left,
               max(opened_at) AS newest
        FROM alerts GROUP BY alert, severity, owner
        ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, newest DESC, alert
        """
    )
    return {"now": given.now, "kinds": kinds[:_MOST], "more": max(0, len(kinds) - _MOST)}


PANEL = Panel(name="alerts", title="Alerts", order=44, build=build, kept=(_TRANSITIONS,))
