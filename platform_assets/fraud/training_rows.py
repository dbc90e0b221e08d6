"""Training rows: each transaction with what was known of its card when it happened, and what was reported of it since.

Computed by DuckDB a day at a time, with the expressions by which transactions are scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.fraud.card_profiles import build_profiles_sql, find_profile_span
from platform_assets.fraud.features import DUCKDB_FUNCTIONS, FEATURES, FEATURES_LAG
from platform_assets.fraud.fraud_devices import build_fraud_devices_sql
from platform_assets.fraud.past_features import LONGEST_RECENT, build_features_sql
from platform_assets.registered_tables import register_table
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams.card_days import CARD_DAYS
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable

LABEL_DELAY = timedelta(hours=72)
"""How old a transaction without a report must be to count as honest. Until then most fraud looks honest, too."""

_DAY = timedelta(days=1)


def read_training_rows(
    lakehouse: Any,
    connection: duckdb.DuckDBPyConnection,
    until: datetime,
    since: datetime | None = None,
    honest_one_of: int = 1,
) -> pa.Table:
    """All transactions before `until` (from `since` on), by time, as rows that a model learns from.

    Columns: `transaction_id`, `event_time`, `card_id`, one for each of `FEATURES` by its name (number: double,
    category: text), then `label`, `label_known_at` and `is_fraud`. A label is the newest verdict that was reported
    before `until`, with its time; without one false, `LABEL_DELAY` after the transaction; before that null, and so is
    the time. `is_fraud` is the simulation's truth, to measure by and never to learn from.

    `honest_one_of`: of n transactions that are not reported as fraud one is given, always the same ones; all of the
    others. The rows come into memory, about 250 bytes each. Raises deltalake's `TableNotFoundError` before there are
    transactions.
    """
    import pyarrow as pa

    parts = list(read_training_days(lakehouse, connection, until, since, honest_one_of))
    return pa.concat_tables(parts) if parts else _build_schema().empty_table()


def read_training_days(
    lakehouse: Any,
    connection: duckdb.DuckDBPyConnection,
    until: datetime,
    since: datetime | None = None,
    honest_one_of: int = 1,
) -> Iterator[pa.Table]:
    """The rows of `read_training_rows`, those of one day after the other."""
    transactions = lakehouse.delta_table(TRANSACTIONS.name)
    for statement in DUCKDB_FUNCTIONS:
        connection.execute(statement)
    _read_labels(lakehouse, connection, until)
    for day in _find_days(transactions, until, since):
        rows = _read_day(lakehouse, connection, transactions, day, (since, until), honest_one_of)
        if len(rows):
            yield rows


def _find_days(transactions: DeltaTable, until: datetime, since: datetime | None) -> list[datetime]:
    """The days (UTC) on which the `as_of` of one of the transactions may lie, in order."""
    import pyarrow as pa

    files = pa.table(transactions.get_add_actions(flatten=True)).to_pylist()
    dates = {datetime.combine(f["partition.event_date"], datetime.min.time(), UTC) for f in files}
    # What happened within the lag after midnight is looked at as of the day before.
    days = {start for date in dates for start in (date - _DAY, date)}
    return sorted(day for day in days if day + FEATURES_LAG < until and (since is None or day + _DAY > since - _DAY))


def _read_day(
    lakehouse: Any,
    connection: duckdb.DuckDBPyConnection,
    transactions: DeltaTable,
    day: datetime,
    span: tuple[datetime | None, datetime],
    honest_one_of: int,
) -> pa.Table:
    since, until = span
    end = min(day + _DAY, until - FEATURES_LAG)
    days = ((day - LONGEST_RECENT).date(), (end + FEATURES_LAG).date())
    register_pinned(connection, "transactions", transactions, ("event_date", *days), build_arrow_schema(TRANSACTIONS))
    register_table(lakehouse, connection, CARD_DAYS, "card_days", ("window_start", *find_profile_span(day)))
    # Most cards rest on most days.
    own = f"SELECT card_id FROM transactions WHERE event_time >= {as_timestamptz(day)}"
    profiles = build_profiles_sql(f"(SELECT * FROM card_days WHERE card_id IN ({own}))", day)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE card_profiles AS {profiles}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE fraud_devices AS {build_fraud_devices_sql(day)}")
    begun = "" if since is None else f"AND event_time >= {as_timestamptz(since)}"
    honest_at = f"event_time + INTERVAL '{LABEL_DELAY // timedelta(hours=1)} hours'"
    is_old = f"{honest_at} <= {as_timestamptz(until)}"
    schema = _build_schema()
    found: pa.Table = connection.sql(f"""
        SELECT {", ".join(f'"{name}"' for name in schema.names)} FROM (
          SELECT f.*, CASE WHEN l.known_at IS NOT NULL THEN l.is_fraud WHEN {is_old} THEN FALSE END AS label,
                 CASE WHEN l.known_at IS NOT NULL THEN l.known_at WHEN {is_old} THEN {honest_at} END AS label_known_at
          FROM ({build_features_sql(day, end)}) f LEFT JOIN fraud_labels l USING (transaction_id)
        ) WHERE (label OR md5_number_lower(transaction_id) % {honest_one_of} = 0) {begun}
        ORDER BY event_time, transaction_id""").to_arrow_table()
    return found.cast(schema)


def _read_labels(lakehouse: Any, connection: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """The newest verdict of each transaction that has one; of two at one moment fraud holds."""
    register_table(lakehouse, connection, FRAUD_REPORTS, "fraud_reports", None)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE fraud_labels AS
        SELECT transaction_id, max_by(verdict, row(event_time, verdict = 'fraud')) = 'fraud' AS is_fraud,
               max(event_time) AS known_at
        FROM fraud_reports WHERE event_time < {as_timestamptz(until)} GROUP BY transaction_id""")


def _build_schema() -> pa.Schema:
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    features = [(f.name, pa.float64() if f.kind == "number" else pa.string()) for f in FEATURES]
    labels = [("label", pa.bool_()), ("label_known_at", moment), ("is_fraud", pa.bool_())]
    return pa.schema(
        [("transaction_id", pa.string()), ("event_time", moment), ("card_id", pa.string()), *features, *labels]
    )
