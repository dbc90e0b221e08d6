"""What a day lacks that is final by its time: late events that wait for their repair, sessions that are still open.

One event that waits for the end of its session, or a session that goes on for a day, does not keep a day from being
final. It is named next to the state instead. When it is over, rows of the day change, and the day is computed again.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.reports.daily_report import InputRows, PinnedTable
from platform_assets.reports.day_states import FINAL, state_of
from platform_assets.reports.days import ONE_DAY, DayRange
from platform_assets.reports.report_sources import ReportSource
from platform_assets.streams.sessions import INACTIVITY, SESSIONS
from platform_assets.tables.platform import LATE_EVENTS
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    from platform_assets.reports.report_engine import ReportEngine

LATE, OPEN_SESSIONS = "late_events", "open_sessions"

# A session that is open at a day's end has an event in the day's last half hour, and no row that counts it.
_OPEN_SESSIONS = """
    SELECT count(DISTINCT user_id) AS users FROM events e
    WHERE is_anonymous IS NOT TRUE AND NOT EXISTS (
      SELECT 1 FROM sessions s WHERE s.user_id = e.user_id AND e.event_time BETWEEN s.session_start AND s.session_end)
"""


def find_exceptions(
    source: ReportSource,
    days: Sequence[date],
    final_until: datetime | None,
    engine: ReportEngine,
    lakehouse: Any,
    pin: Callable[[TableSpec], PinnedTable],
    longest: timedelta,
) -> Mapping[date, str]:
    """What those of a source's days lack that are final by their time, as `platform.report_days` has it.

    Others are left out. `pin` gives an input's version; `longest` is the longest session. Reads half an hour of events
    for each of the last days where there are sessions, and nothing of older ones.
    """
    final = [day for day in days if state_of(day, final_until) == FINAL]
    late = count_late_events(lakehouse, source.queries) if final else Counter()
    found = {}
    for day in final:
        assert final_until is not None
        # A session that was open at the end of a day before that has been cut since.
        is_recent = source.has_sessions and DayRange(day, day).end > final_until - 2 * longest
        sessions = _count_open_sessions(engine, day, pin(EVENTS), pin(SESSIONS), longest) if is_recent else 0
        lacking = {name: n for name, n in ((LATE, late[day]), (OPEN_SESSIONS, sessions)) if n}
        if lacking:
            found[day] = json.dumps(lacking)
    return found


def count_late_events(lakehouse: Any, queries: Sequence[str]) -> Counter[date]:
    """How many events of each day (UTC) wait for their repair in a table of these queries, each event once."""
    import pyarrow.compute as pc

    table = lakehouse.find_table(LATE_EVENTS.name)
    if table is None:
        return Counter()
    columns = ["query", "event_time", "topic", "kafka_partition", "kafka_offset"]
    rows = table.to_pyarrow_dataset().to_table(columns, filter=pc.field("repaired_at").is_null()).to_pylist()
    waiting = {tuple(row.values())[1:] for row in rows if row["query"] in queries}
    return Counter(event_time.astimezone(UTC).date() for event_time, *_ in waiting)


def _count_open_sessions(
    engine: ReportEngine, day: date, events: PinnedTable, sessions: PinnedTable, longest: timedelta
) -> int:
    """Users with a session that went on beyond the day's end and has no row. Reads half an hour of the events."""
    end = DayRange(day, day).end
    last = InputRows("events", events, ("event_time", end - INACTIVITY, end - timedelta(microseconds=1)))
    began = ("session_date", day - math.ceil(longest / ONE_DAY) * ONE_DAY, day)
    rows = engine.fetch(_OPEN_SESSIONS, [last, InputRows("sessions", sessions, began)])
    (users,) = rows["users"].to_pylist()
    return int(users)
