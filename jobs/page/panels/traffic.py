"""Panel `traffic`: requests and errors of the web servers, minute by minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

_MINUTES = Kept(
    name="traffic",
    table=TRAFFIC_BY_MINUTE,
    time_column="window_start",
    find_since=lambda newest: newest - _HOUR - _MINUTE,
    sql="""
        SELECT window_start AS moment, CAST(sum(requests) AS BIGINT) AS requests,
               CAST(sum(client_errors) AS BIGINT) AS client_errors, CAST(sum(server_errors) AS BIGINT) AS server_errors
        FROM file_rows WHERE window_start >= $since GROUP BY ALL""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The last hour's minutes, and the sums of the last whole one."""
    newest = given.newest["traffic"]
    if newest is None:
        return {"is_empty": True}
    # The newest minute may still get requests: the last one is that before it.
    end = newest.replace(second=0, microsecond=0)
    rows = given.ask(
        """SELECT moment, CAST(sum(requests) AS BIGINT) AS requests,
                  CAST(sum(client_errors) AS BIGINT) AS client_errors,
                  CAST(sum(server_errors) AS BIGINT) AS server_errors
           FROM traffic WHERE moment >= $start AND moment < $until GROUP BY ALL""",
        start=end - _HOUR, until=end,
    )  # fmt: skip
    minutes = {row["moment"]: row for row in rows}
    line = [
        (at, minutes[at]["requests"] if at in minutes else 0) for at in (end - _HOUR + _MINUTE * n for n in range(60))
    ]
    nothing = {"requests": 0, "client_errors": 0, "server_errors": 0}
    requests = sum(row["requests"] for row in rows)
    return {
        "is_empty": False,
        "now": given.now,
        "until": end,
        "minute": minutes.get(end - _MINUTE, nothing),
        "requests": requests,
        "failed": sum(row["server_errors"] for row in rows) / requests if requests else None,
        "line": [float(count) for _, count in line],
        "words": _describe(line),
    }


def _describe(line: Sequence[tuple[datetime, int]]) -> str:
    at, most = max(line, key=lambda point: (point[1], point[0]))
    return (
        f"Requests of each minute from {line[0][0]:%H:%M} to {line[-1][0]:%H:%M} UTC: at most {most:,} at {at:%H:%M}, "
        f"in the last minute {line[-1][1]:,}."
    )


PANEL = Panel(name="traffic", title="Web traffic", order=60, build=build, kept=(_MINUTES,))
