"""The check that names users who stand for many: a shared account, a load tester, an id that a sender gives to all.

Such a user's views and purchases are all joined with one another, and its sessions never end. Only a person who knows
the shop can say whether it is a person. The newest two days are looked at, of as many events as one run can afford.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.checks.newest_events import register_newest
from platform_assets.private_rows import hide_users, render_rows
from platform_assets.streaming.stream_spec import Stream, TableSource, select_derived

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

_SHOWN = 5

# An event may be dated up to a day ahead: those of tomorrow are no day yet.
_BUSY = """
    WITH days AS (SELECT event_date, count(*) AS of_day FROM events WHERE event_date <= $today
                  GROUP BY ALL ORDER BY event_date DESC LIMIT 2),
         users AS (SELECT event_date, "{user}" AS user_id, count(*) AS events FROM events
                   WHERE is_anonymous IS NOT TRUE AND event_date IN (SELECT event_date FROM days)
                   GROUP BY ALL HAVING count(*) >= $events)
    SELECT event_date, user_id, events, events / of_day AS share FROM users JOIN days USING (event_date)
    WHERE events > of_day * $share ORDER BY event_date DESC, events DESC, user_id
"""


@dataclass(frozen=True)
class BusyUserLimits:
    """A user is busy with more than this share of a day's events, and with at least this number of them."""

    share: float = 0.05
    events: int = 1_000


def build_busy_users_checks(streams: Iterable[Stream], limits: BusyUserLimits) -> list[dg.AssetChecksDefinition]:
    """One check `busy_users` for each table with users that a stream reads; needs `lakehouse` and `duckdb`."""
    sources = {stream.source.table.name: stream.source for stream in select_derived(streams)}
    users = [(source, source.table.roles.user_id) for source in sources.values()]
    return [_build_check(source, user_column, limits) for source, user_column in users if user_column is not None]


def _build_check(source: TableSource, user_column: str, limits: BusyUserLimits) -> dg.AssetChecksDefinition:
    def look(connection: "duckdb.DuckDBPyConnection", events: "DeltaTable") -> dg.AssetCheckResult:
        register_newest(connection, events, source)
        return judge(find_busy_users(connection, user_column, limits, datetime.now(UTC).date()), limits)

    return build_duckdb_check(
        source.table, "busy_users",
        "No known user has so many of a day's events that it can hardly be one person.",
        look, "There is no event yet.",
    )  # fmt: skip


def find_busy_users(
    connection: "duckdb.DuckDBPyConnection", user_column: str, limits: BusyUserLimits, today: date
) -> list[dict[str, Any]]:
    """The busy users of the newest two days in the relation `events`, the busiest of each day first."""
    parameters = {"today": today, "events": limits.events, "share": limits.share}
    return connection.sql(_BUSY.format(user=user_column), params=parameters).to_arrow_table().to_pylist()


def judge(found: Sequence[dict[str, Any]], limits: BusyUserLimits) -> dg.AssetCheckResult:
    """The verdict, in which no user is named: a warning, for it may be a person."""
    rows = hide_users(found[:_SHOWN], "busy users")
    said = "; ".join(f"{r['user_id']} has {r['events']:,} of {r['event_date']} ({r['share']:.0%})" for r in rows)
    advice = (
        f"More than {limits.share:.0%} of a day's events are of one user: {said}. headrace check --rows shows who. If "
        "that stands for many, name it in HEADRACE_ANONYMOUS_USERS, with the usual ones: its new events are left out "
        "of pairs, sessions and customers then. If it is one user, raise HEADRACE_BUSY_USER_SHARE."
    )
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=advice if found else f"No known user has more than {limits.share:.0%} of a day's events.",
        metadata={"busy_users": len(found), "first_users": dg.MetadataValue.md(render_rows(rows))},
    )
