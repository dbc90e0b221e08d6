"""Panel `threats`: what the day's report says of networks, the newest first. Without addresses, which are of people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE

_MOST = 6

_THREATS = Kept(
    name="threats",
    table=NETWORK_THREATS_TABLE,
    time_column="last_at",
    find_since=lambda newest: newest - timedelta(days=1),
    sql="""
        SELECT last_at AS moment, network, rule, words, logged_in_at IS NOT NULL AS has_logged_in
        FROM file_rows WHERE last_at >= $since""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The newest threats, those of networks that have logged in first, and how many there were in a day."""
    newest = given.newest["threats"] or given.now
    [found] = given.ask(
        """SELECT count(*) AS threats, count(DISTINCT network) AS networks FROM threats
           WHERE moment >= $since AND moment <= $now""",
        now=given.now, since=newest - timedelta(days=1),
    )  # fmt: skip
    threats = given.ask(
        """SELECT moment, rule, words, has_logged_in FROM threats WHERE moment >= $since AND moment <= $now
           ORDER BY has_logged_in DESC, moment DESC, rule, network LIMIT $most""",
        now=given.now, since=newest - timedelta(days=1), most=_MOST,
    )  # fmt: skip
    return {"now": given.now, **found, "shown": threats}


PANEL = Panel(name="threats", title="Threats", order=62, build=build, kept=(_THREATS,))
