"""gold.card_features: what is known of each card at this moment, for the model that judges its next payment.

Computed by DuckDB every few seconds, and replaced as a whole: a reader sees one state or the next, each card once. The
profiles change once a day, so only what is recent is read each time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz
from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.fraud.card_profiles import (
    PROFILE_COLUMNS,
    build_profiles_sql,
    find_profile_span,
    floor_moment,
)
from platform_assets.fraud.paced_reading import PacedReading
from platform_assets.registered_tables import register_table
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams import spend_by_card, velocity
from platform_assets.streams.card_days import CARD_DAYS
from platform_assets.streams.spend_by_card import SPEND_BY_CARD
from platform_assets.streams.velocity import CARD_VELOCITY
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable

# Each version is a file of all cards, 7 MB of 200,000: a day at one each ten seconds would be 60 GB. A reader is done
# with a version after seconds; it has about five minutes for it.
_VERSIONS_KEPT = 30
_REFRESHES_OF_ONE_UPKEEP = 30
_LOG_RETENTION = "interval 1 hours"

_RECENT_SQL = """
SELECT card_id, payment_count AS recent_payments, countries AS recent_countries, merchants AS recent_merchants
FROM card_velocity WHERE {is_first_to_end}"""
_HOUR_SQL = """
SELECT card_id, CAST(sum(payment_count) AS BIGINT) AS hour_payments,
       map(list(currency ORDER BY currency), list(CAST(total_amount AS DOUBLE) ORDER BY currency)) AS hour_amounts,
       map(list(currency ORDER BY currency), list(CAST(total_amount AS DOUBLE) / payment_count ORDER BY currency))
         AS hour_mean_amounts
FROM spend_by_card WHERE {is_first_to_end} GROUP BY card_id"""
_SQL = """
SELECT {columns} FROM (
  SELECT *, {as_of} AS as_of, {computed_at} AS computed_at
  FROM card_profiles FULL JOIN ({recent}) USING (card_id) FULL JOIN ({hour}) USING (card_id)
)"""


class CardFeatures:
    """Computes the table, again and again: one object for a process, with a DuckDB connection that nobody else uses.

    The connection's memory limit bounds what it takes. Tables that do not exist yet count as empty.
    """

    def __init__(self, lakehouse: Any, connection: duckdb.DuckDBPyConnection) -> None:
        self._lakehouse, self._connection = lakehouse, connection
        self._reading = PacedReading(lakehouse, CARD_DAYS)
        self._table: DeltaTable | None = None
        self._refreshes = 0

    def compute(self, as_of: datetime, reached: datetime | None = None) -> pa.Table:
        """The rows of `CARD_FEATURES` as of a moment (UTC), from what the streams have written until this call.

        What they have not written yet is missing: ask as of the moment that they have reached, a few seconds ago.
        Where they are further behind, `reached` says since when: then that is the rows' `as_of`. Recent is what lies
        in the window that ends first after the parameter `as_of`, whose payments are all before it then.
        """
        self._read_profiles(as_of)
        recent = self._register_first_to_end(CARD_VELOCITY, "card_velocity", as_of, velocity.SLIDE)
        hour = self._register_first_to_end(SPEND_BY_CARD, "spend_by_card", as_of, spend_by_card.SLIDE)
        schema = build_arrow_schema(CARD_FEATURES)
        sql = _SQL.format(
            columns=", ".join(schema.names),
            as_of=as_timestamptz(as_of if reached is None else min(as_of, reached)),
            computed_at=as_timestamptz(datetime.now(UTC)),
            recent=_RECENT_SQL.format(is_first_to_end=recent),
            hour=_HOUR_SQL.format(is_first_to_end=hour),
        )
        found: pa.Table = self._connection.sql(sql).to_arrow_table()
        return found.cast(schema)

    def write(self, rows: pa.Table) -> None:
        """Replaces the table by rows that `compute` gave, in one commit.

        One process may do so at a time. Every few calls it removes the versions that no reader is at any more.
        """
        from deltalake import write_deltalake

        from platform_assets.streaming.delta.retried_commits import no_hooks

        if self._table is None:
            uri, options = self._lakehouse.table_uri(CARD_FEATURES.name), self._lakehouse.storage_options()
            self._table = create_table(uri, CARD_FEATURES, options, _LOG_RETENTION)
        write_deltalake(self._table, rows, mode="overwrite", post_commithook_properties=no_hooks())
        self._refreshes += 1
        if self._refreshes % _REFRESHES_OF_ONE_UPKEEP == 0:
            _remove_old_versions(self._table)

    def _read_profiles(self, as_of: datetime) -> None:
        """Keeps the profiles in a table of the connection."""
        if not self._reading.is_due(as_of):
            return
        first, end = find_profile_span(as_of)
        register_table(self._lakehouse, self._connection, CARD_DAYS, "card_days", ("window_start", first, end))
        sql = build_profiles_sql("card_days", as_of)
        columns = ", ".join(("card_id", *PROFILE_COLUMNS))
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE card_profiles AS SELECT {columns} FROM ({sql})")
        self._reading.note()

    def _register_first_to_end(self, spec: TableSpec, name: str, as_of: datetime, slide: timedelta) -> str:
        """SQL: whether a row of the table is of the window that ends first after a moment."""
        end = floor_moment(as_of, slide) + slide
        register_table(self._lakehouse, self._connection, spec, name, ("window_end", end, end))
        return f"window_end = {as_timestamptz(end)}"


def _remove_old_versions(table: DeltaTable) -> None:
    newest = table.version()
    kept = list(range(max(0, newest - _VERSIONS_KEPT), newest + 1))
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, keep_versions=kept)
    table.update_incremental()
    table.create_checkpoint()
    table.cleanup_metadata()
