"""Accounts in a table of Postgres: a topic of change events, and histories of them with what the table holds.

The history is written as Debezium writes it; what it comes to is a dict that follows the database, not the events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from hypothesis import strategies as st
from msgspec import Meta

from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.changed_row import CHANGE_TIME, ChangedRow
from platform_assets.streaming.current_rows import build_current_rows
from platform_assets.streaming.topic_spec import Topic, digits

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1)


class Account(ChangedRow):
    """A row of the table."""

    id: int
    balance: Annotated[Decimal, digits(12, 2)]
    name: Annotated[str, Meta(min_length=1)]
    opened_on: date | None = None
    tags: list[str] = []


def refuse_debts(row: Account) -> tuple[str, str] | None:
    """Judges what no type says."""
    return ("debt", f"balance is {row.balance}") if row.balance < 0 else None


TOPIC = Topic(
    name="accounts",
    description="Changes of accounts.",
    kafka_topic="shop.public.accounts",
    record=Account,
    values=ChangeEvents(key=("id",)),
    event_time=CHANGE_TIME,
    subject="id",
    event_type="change_operation",
    rules=(refuse_debts,),
)
CURRENT = build_current_rows(TOPIC, 0.0)


@dataclass(frozen=True)
class Sent:
    """A Kafka record of the topic. `number` orders the database's changes."""

    key: bytes
    value: bytes | None
    account: int


@dataclass
class Database:
    """The table of accounts, and the change events of all that was done to it."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: list[Sent] = field(default_factory=list)
    lsn: int = 1_000
    wrap: Callable[[dict[str, Any]], dict[str, Any]] = lambda event: event

    def put(self, account: int, balance: int, name: str) -> None:
        """Inserts the row, or updates it."""
        before = self.rows.get(account)
        self.rows[account] = {
            "id": account, "balance": str(Decimal(balance) / 100), "name": name,
            "opened_on": (date(2020, 1, 1) - EPOCH_DAY).days + account % 1_000, "tags": [name] * (balance % 3),
        }  # fmt: skip
        self._log("c" if before is None else "u", account, None, self.rows[account])

    def delete(self, account: int) -> None:
        """Deletes the row, if it is there; Postgres names it by its key, and a tombstone follows."""
        if self.rows.pop(account, None) is not None:
            self._log("d", account, {"id": account}, None)
            self.events.append(Sent(_key(account), None, account))

    def snapshot(self) -> None:
        """Debezium reads the whole table."""
        for account, row in self.rows.items():
            self._send("r", account, None, row)

    def repeat(self, last: int) -> None:
        """The connector dies, and begins again at one of the `last` events."""
        self.events += self.events[max(0, len(self.events) - last) :]

    def _log(self, op: str, account: int, before: Any, after: Any) -> None:
        self.lsn += 8
        self._send(op, account, before, after)

    def _send(self, op: str, account: int, before: Any, after: Any) -> None:
        at = BEGIN + timedelta(milliseconds=self.lsn)
        at_ms = round(at.timestamp() * 1000)
        source = {
            "version": "2.7", "connector": "postgresql", "ts_ms": at_ms, "lsn": self.lsn,
            "snapshot": str(op == "r").lower(), "schema": "public", "table": "accounts",
        }  # fmt: skip
        event = {"before": before, "after": after, "source": source, "op": op, "ts_ms": at_ms + 5}
        self.events.append(Sent(_key(account), json.dumps(self.wrap(event)).encode(), account))

    def expect(self) -> dict[str, tuple[Decimal, str, date, list[str]]]:
        """The rows as the current table has them, by their id as text."""
        return {
            str(row["id"]): (
                Decimal(row["balance"]), row["name"], EPOCH_DAY + timedelta(days=row["opened_on"]), row["tags"],
            )
            for row in self.rows.values()
        }  # fmt: skip


def found(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[Decimal, str, date, list[str]]]:
    """The rows of the current table that are not gone, as `Database.expect` has them. Each key is there once."""
    assert len({row["id"] for row in rows}) == len(rows)
    return {
        row["id"]: (row["balance"], row["name"], row["opened_on"], row["tags"]) for row in rows if not row["is_deleted"]
    }


def with_schema(event: dict[str, Any]) -> dict[str, Any]:
    """The wrapper of JsonConverter with schemas.enable."""
    return {"schema": {"type": "struct", "name": "shop.public.accounts.Envelope"}, "payload": event}


def _key(account: int) -> bytes:
    return json.dumps({"id": account}).encode()


_ACCOUNTS = st.integers(1, 4)
_STEPS = st.one_of(
    st.tuples(st.just("put"), _ACCOUNTS, st.integers(0, 99_999), st.sampled_from(["Ann", "Bö", "x" * 40])),
    st.tuples(st.just("delete"), _ACCOUNTS),
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("repeat"), st.integers(1, 6)),
)


@st.composite
def histories(draw: st.DrawFn, most: int = 25) -> Database:
    """Databases that something was done to."""
    database = Database(wrap=draw(st.sampled_from([with_schema, lambda event: event])))
    for name, *arguments in draw(st.lists(_STEPS, min_size=1, max_size=most)):
        getattr(database, name)(*arguments)
    return database
