"""Devices with which cards were used that were reported as fraud: a thief pays by many cards from the same one.

It is the graph of cards and devices, looked at around one device: the cards that are linked to it. The links come from
`gold.card_days`, so they are of the channels in which a device is the customer's and not the shop's.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz
from platform_assets.fraud.card_profiles import find_profile_span
from platform_assets.fraud.paced_reading import PacedReading
from platform_assets.registered_tables import register_table
from platform_assets.streams.card_days import CARD_DAYS
from platform_assets.topics.fraud_reports import FRAUD_REPORTS

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

# Spark looks a name up in a map by comparing it with one after the other, for each payment that has a device: 2,000
# take some microseconds. A list of all devices of a large bank's reports would cost more than the rest of the score.
MOST_DEVICES = 2_000

# How far into the next day what is known of a day may serve, where it cannot be read anew. Devices of rings change
# after days; a count that stands still for longer would say of a new one that nothing is known against it.
_LASTS = timedelta(hours=6)


def build_fraud_devices_sql(as_of: datetime) -> str:
    """A query for `device` and `cards`: how many of its cards were reported before the day (UTC) of `as_of`.

    Over the relations `card_days` and `fraud_reports` (rows of both tables). A card counts if the newest verdict of one
    of its transactions was fraud then; links and reports are those of the days of a profile. Devices with none have no
    row; of more than `MOST_DEVICES` those stay that have the most cards, and of equal ones those that were used last.
    """
    first, day = (as_timestamptz(moment) for moment in find_profile_span(as_of))
    return f"""
WITH reported AS (
  SELECT DISTINCT card_id FROM (
    SELECT card_id, transaction_id, max_by(verdict, row(event_time, verdict = 'fraud')) AS newest
    FROM fraud_reports WHERE event_time >= {first} AND event_time < {day} GROUP BY card_id, transaction_id
  ) WHERE newest = 'fraud'
), links AS (
  SELECT card_id, window_start, unnest(devices) AS device FROM card_days
  WHERE window_start >= {first} AND window_start < {day} AND card_id IN (SELECT card_id FROM reported)
)
SELECT device, CAST(count(DISTINCT card_id) AS INTEGER) AS cards FROM links
GROUP BY device ORDER BY cards DESC, max(window_start) DESC, device LIMIT {MOST_DEVICES}"""


class FraudDevices:
    """Reads the devices again and again: one object for a process, over a connection that nobody else uses meanwhile.

    What it has read it keeps (`PacedReading`). Tables that do not exist yet count as empty.
    """

    def __init__(self, lakehouse: Any, connection: duckdb.DuckDBPyConnection) -> None:
        self._lakehouse, self._connection = lakehouse, connection
        self._found: dict[str, int] | None = None
        self._day: datetime | None = None
        self._reading = PacedReading(lakehouse, CARD_DAYS, FRAUD_REPORTS)

    def read(self, as_of: datetime) -> dict[str, int] | None:
        """Reported cards by device, as known before the day of `as_of`; None where nothing that new can be read.

        They are read as often as the profiles of cards. What goes wrong is said in the log, and tried again with the
        next call; until then the earlier counts go on, for a few hours of the next day at most.
        """
        import duckdb
        from deltalake.exceptions import DeltaError

        try:
            if self._reading.is_due(as_of):
                self._found, self._day = self._compute(as_of), find_profile_span(as_of)[1]
                self._reading.note()
        except (DeltaError, OSError, duckdb.Error) as error:
            _log.warning("Devices of reported cards could not be read, and are tried again: %s", error)
        if self._day is not None and as_of >= self._day + timedelta(days=1) + _LASTS:
            self._found = None
        return self._found

    def _compute(self, as_of: datetime) -> dict[str, int]:
        first, day = find_profile_span(as_of)
        register_table(self._lakehouse, self._connection, CARD_DAYS, "card_days", ("window_start", first, day))
        dates = ("event_date", first.date(), day.date())
        register_table(self._lakehouse, self._connection, FRAUD_REPORTS, "fraud_reports", dates)
        return dict(self._connection.sql(build_fraud_devices_sql(as_of)).fetchall())
