"""Recommendations for users who are in the shop, computed anew each minute from what they have done in half an hour.

Called by the stream group between its other work, so that no process is started for it. A shop without a new event
costs a look at the log of silver.events; nothing is loaded before gold.product_neighbours is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.registered_tables import register_rows, register_table
from platform_assets.reports.whole.interactions import write_weights_sql
from platform_assets.reports.whole.recommendation_tables import (
    IN_SESSION,
    MOST_RECOMMENDED,
    PRODUCT_NEIGHBOURS_TABLE,
    PRODUCT_RECOMMENDATIONS_TABLE,
)
from platform_assets.reports.whole.whole_commit import WholeCommit, find_commit, write_rows
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

# A session of the shop ends with a pause of half an hour.
OPEN_SESSION = timedelta(minutes=30)
# Within a session: what was looked at ten minutes ago says half of what is looked at now.
_HALF_LIFE_DAYS = 10 / 24 / 60
# It computes in the process that holds the streams, next to a heap that may be most of the machine.
_MEMORY_MIB = 256

_LOG = logging.getLogger(__name__)


class SessionUpdate:
    """Keeps the rows of `basis` session. For one thread."""

    def __init__(self, lakehouse: Any, check_lease: Callable[[], None] | None = None) -> None:
        self._lakehouse = lakehouse
        self._check_lease = check_lease
        self._read: tuple[int, int] | None = None

    def follow(self) -> None:
        """Does `update` at the wall clock. What fails is logged, and tried again at the next call.

        Recommendations that are a minute old must not end the streams.
        """
        try:
            self.update(datetime.now(UTC))
        except Exception:  # noqa: BLE001
            _LOG.exception("The recommendations of users in the shop were not updated.")

    def update(self, now: datetime) -> int | None:
        """Writes what is to be shown to the users with events in the last `OPEN_SESSION`; returns the number of rows.

        None where nothing is new since the last call, or gold.product_neighbours is not there yet.
        """
        events = self._lakehouse.find_table(EVENTS.name)
        neighbours = self._lakehouse.find_table(PRODUCT_NEIGHBOURS_TABLE.name)
        if events is None or neighbours is None:
            return None
        read = events.version(), neighbours.version()
        if read == self._read:
            return None
        rows = self._compute(events, neighbours, now)
        if self._check_lease is not None:
            self._check_lease()
        known = self._lakehouse.find_table(PRODUCT_RECOMMENDATIONS_TABLE.name)
        before = None if known is None else find_commit(known)
        versions = {EVENTS.name: read[0], PRODUCT_NEIGHBOURS_TABLE.name: read[1]}
        commit = WholeCommit(versions, {} if before is None else before.measured)
        write_rows(self._lakehouse, PRODUCT_RECOMMENDATIONS_TABLE, rows, commit.as_json(), IN_SESSION)
        self._read = read
        return len(rows)

    def _compute(self, events: DeltaTable, neighbours: DeltaTable, now: datetime) -> pa.Table:
        import duckdb

        since = now - OPEN_SESSION
        with duckdb.connect(config={"memory_limit": f"{_MEMORY_MIB}MiB", "threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            register_rows(connection, EVENTS, events, "all_events", ("event_time", since, now))
            register_rows(connection, PRODUCT_NEIGHBOURS_TABLE, neighbours, "neighbours")
            bought = ("purchase_time", since, now)
            register_table(self._lakehouse, connection, VIEW_TO_PURCHASE, "view_to_purchase", bought)
            register_table(self._lakehouse, connection, PRODUCT_RECOMMENDATIONS_TABLE, "known")
            return connection.sql(_write_sql(since, now)).to_arrow_table()


def _write_sql(since: datetime, now: datetime) -> str:
    """SQL: the rows of `basis` session. Scores add up: what the night knows of the user, and what this session says."""
    begin, end = (f"TIMESTAMPTZ '{moment.isoformat()}'" for moment in (since, now))
    return f"""
WITH events AS (
  -- A view that has led to its purchase says nothing more: the purchase does.
  SELECT * FROM all_events WHERE event_time >= {begin} AND event_id NOT IN (
    SELECT view_event_id FROM view_to_purchase WHERE purchase_time >= {begin} AND view_event_id IS NOT NULL)
), seeds AS ({write_weights_sql(now, half_life_days=_HALF_LIFE_DAYS)}
), said AS (
  SELECT user_id, other_product_id AS product_id, ln(1 + weight) * score AS score, 'like ' || product_id AS reason
  FROM seeds JOIN neighbours USING (product_id)
  UNION ALL
  SELECT user_id, product_id, score, reason FROM known
  WHERE basis = 'history' AND user_id IN (SELECT user_id FROM seeds)
), summed AS (
  SELECT user_id, product_id, round(sum(score), 9) AS score,
         max_by(reason, {{'score': score, 'reason': reason}}) AS reason
  FROM said ANTI JOIN seeds USING (user_id, product_id) GROUP BY ALL
)
SELECT 'session' AS basis, user_id, NULL AS country,
       row_number() OVER (PARTITION BY user_id ORDER BY score DESC, product_id) AS rank,
       product_id, score, reason, {end} AS computed_at
FROM summed
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY score DESC, product_id) <= {MOST_RECOMMENDED}
ORDER BY user_id, rank
"""
