"""Reads what somebody who looks into alerts wants to see: the newest ones, each card's last day, holds and reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.fraud.held_cards import find_holds
from platform_assets.registered_tables import register_table
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    import duckdb

    from resources.lakehouse import LakehouseResource

# What somebody looks through in an hour. The table has the rest.
MOST_ALERTS = 100
# A card that pays more in a day is a test of cards: the first ones show it, and the count of all is next to them.
MOST_PAYMENTS = 20

_PAID = (
    "transaction_id", "kind", "event_time", "merchant_id", "merchant_category", "amount", "currency", "country",
    "channel", "device",
)  # fmt: skip


@dataclass(frozen=True)
class ShownAlert:
    """An alert with what is known around it.

    `alert` is a row of `FRAUD_ALERTS`, `payment` its transaction (None: not in its table yet). `before` are the card's
    transactions of the 24 hours before it, the newest first and at most `MOST_PAYMENTS`, of `before_count`. `reports`
    are those of the card since then, the newest first; `is_of_payment` says whether one is of this transaction.
    `held_since`: when the alert came by which the card is held now.
    """

    alert: dict[str, Any]
    payment: dict[str, Any] | None
    before: tuple[dict[str, Any], ...]
    before_count: int
    reports: tuple[dict[str, Any], ...]
    held_since: datetime | None

    @property
    def verdict(self) -> str | None:
        """What was reported last of this transaction: fraud, no_fraud or None."""
        return next((row["verdict"] for row in self.reports if row["is_of_payment"]), None)


def read_alerts(lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection) -> list[ShownAlert]:
    """The newest alerts, the newest first; none where there is no table of them yet."""
    register_table(lakehouse, connection, FRAUD_ALERTS, "fraud_alerts")
    newest = f"SELECT * FROM fraud_alerts ORDER BY scored_at DESC, score_id LIMIT {MOST_ALERTS}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE shown AS {newest}")
    alerts = _fetch(connection, "SELECT * FROM shown ORDER BY scored_at DESC, score_id")
    if not alerts:
        return []
    times = [row["event_time"] for row in alerts]
    days = ("event_date", (min(times) - timedelta(days=1)).date(), max(times).date())
    register_table(lakehouse, connection, TRANSACTIONS, "transactions", days)
    register_table(lakehouse, connection, FRAUD_REPORTS, "fraud_reports")
    own = {row["alert_id"]: row for row in _fetch(connection, _OWN)}
    before, reports = _group(_fetch(connection, _BEFORE)), _group(_fetch(connection, _REPORTS))
    held = find_holds(lakehouse)
    return [
        ShownAlert(
            alert=row,
            payment=own.get(row["score_id"]),
            before=tuple(before[row["score_id"]]),
            before_count=before[row["score_id"]][0]["count"] if before[row["score_id"]] else 0,
            reports=tuple(reports[row["score_id"]]),
            held_since=held[row["card_id"]]["as_of"] if row["card_id"] in held else None,
        )
        for row in alerts
    ]


_COLUMNS = ", ".join(f"t.{name}" for name in _PAID)
_OWN = f"""
    SELECT s.score_id AS alert_id, {_COLUMNS} FROM shown s JOIN transactions t ON t.transaction_id = s.score_id
    QUALIFY row_number() OVER (PARTITION BY s.score_id ORDER BY t.event_time DESC) = 1"""
_BEFORE = f"""
    SELECT s.score_id AS alert_id, {_COLUMNS}, count(*) OVER (PARTITION BY s.score_id) AS count
    FROM shown s JOIN transactions t ON t.card_id = s.card_id
      AND t.event_time <= s.event_time AND t.event_time > s.event_time - INTERVAL 24 HOURS
      AND t.transaction_id <> s.score_id
    QUALIFY row_number() OVER (PARTITION BY s.score_id ORDER BY t.event_time DESC, t.transaction_id) <= {MOST_PAYMENTS}
    ORDER BY t.event_time DESC, t.transaction_id"""
_REPORTS = """
    SELECT s.score_id AS alert_id, r.event_time, r.verdict, r.source, r.transaction_id,
           r.transaction_id = s.score_id AS is_of_payment
    FROM shown s JOIN fraud_reports r ON r.card_id = s.card_id AND r.event_time >= s.event_time
      OR r.transaction_id = s.score_id
    ORDER BY r.event_time DESC, r.transaction_id"""


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    return connection.sql(sql).to_arrow_table().to_pylist()


def _group(rows: list[dict[str, Any]]) -> defaultdict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[row["alert_id"]].append(row)
    return found
