"""The accepted records from which reports follow, and when a day of theirs is final."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from platform_assets.streams import spend_by_card, telemetry_statistics, traffic_by_minute, velocity
from platform_assets.streams.sessions import INACTIVITY
from platform_assets.streams.sessions import STREAM as SESSIONS_STREAM
from platform_assets.streams.view_to_purchase import MAX_LAG
from platform_assets.streams.view_to_purchase import STREAM as PAIRS_STREAM
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.access_logs import ACCESS_LOGS
from platform_assets.topics.events import EVENTS
from platform_assets.topics.telemetry import TELEMETRY
from platform_assets.topics.transactions import TRANSACTIONS


@dataclass(frozen=True)
class ReportSource:
    """A topic's table of accepted records, which all inputs of a report are or follow from.

    A day is final when the tables of the streams `queries` are complete until its end, and for `longest_open` after it:
    what began on a day may be open so long. `has_sessions`: a final day may lack sessions that are still open.
    """

    table: TableSpec
    queries: tuple[str, ...]
    longest_open: timedelta = timedelta(0)
    has_sessions: bool = False


# The reports read the tables of these two streams and silver.events, which is always ahead of them. A session is open
# until its pause, a view until a purchase of it.
SHOP = ReportSource(
    EVENTS, (SESSIONS_STREAM.name, PAIRS_STREAM.name), longest_open=max(INACTIVITY, MAX_LAG), has_sessions=True
)

# The report reads silver.transactions itself, and the streams know when all of a day has come.
CARDS = ReportSource(TRANSACTIONS, (spend_by_card.STREAM.name, velocity.STREAM.name))

# The reports read silver.telemetry itself, as those of cards.
SENSORS = ReportSource(TELEMETRY, (telemetry_statistics.STREAM.name,))
# One report reads silver.access_logs itself, the other one the stream's table, and the stream knows when all of a day
# has come.
LOGS = ReportSource(ACCESS_LOGS, (traffic_by_minute.STREAM.name,))
