"""Panel `sessions`: how many go on now, and how those of the last hour ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.sessions import SESSIONS

_QUERY = "sessions"


def _find_since(newest: datetime) -> datetime:
    """An hour of whole minutes, and the one that has begun."""
    return newest.replace(second=0, microsecond=0) - timedelta(hours=1)


_ENDED = Kept(
    name="ended_sessions",
    table=SESSIONS,
    time_column="session_end",
    find_since=_find_since,
    sql="""
        SELECT date_trunc('minute', session_end) AS moment, count(*) AS sessions,
               count(*) FILTER (purchase_count > 0) AS with_purchase, sum(duration_seconds) AS seconds
        FROM file_rows WHERE session_end >= $since GROUP BY ALL""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """Open sessions are those in the state of the stream; the table has those that are over."""
    newest = given.newest["ended_sessions"]
    found = given.ask(
        """SELECT CAST(coalesce(sum(sessions), 0) AS BIGINT) AS sessions,
                  CAST(coalesce(sum(with_purchase), 0) AS BIGINT) AS with_purchase, sum(seconds) AS seconds
           FROM ended_sessions WHERE moment >= $since AND moment <= $now""",
        now=given.now, since=_find_since(newest or given.now),
    )[0]  # fmt: skip
    progress = given.platform.find_progress(_QUERY)
    is_known = progress is not None and progress[1].get("state_rows") is not None
    return {
        "now": given.now,
        "open": progress[1]["state_rows"] if progress is not None and is_known else None,
        "open_at": progress[0] if progress is not None and is_known else None,
        "ended": found["sessions"],
        "until": newest,
        "share": found["with_purchase"] / found["sessions"] if found["sessions"] else None,
        "minutes": found["seconds"] / found["sessions"] / 60 if found["sessions"] else None,
    }


PANEL = Panel(name="sessions", title="Sessions", order=40, build=build, kept=(_ENDED,), reads_platform=True)
