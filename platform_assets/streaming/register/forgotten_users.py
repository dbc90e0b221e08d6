"""The register of forgotten users and of the records erased for them, which every reader of Kafka obeys.

The register has no names: only a hash of each, salted, so that it can't be looked up in a list of hashes made before,
and how long the name is, so that it is found as a word in a text.
A reader with both the table and a list of candidates can try them: a register that works must allow that.
The salt is made with the first row. Lose the register, and the next read of Kafka brings its users back.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.register.forgotten_names import ForgottenNames, hash_user
from platform_assets.tables.coordinates import COORDINATES
from platform_assets.tables.platform import ERASED_RECORDS, FORGOTTEN_USERS

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

ON_ARRIVAL, UNSURE_ON_ARRIVAL = "on_arrival", "unsure_on_arrival"
"""The column `was` of a record that had come into no table: it was a forgotten user's, or may have been."""

# Rows of the register by code that knew one topic name no table, and have columns for this one.
_FIRST_TABLE = "silver.events"
_UTC_MICROS = pa.timestamp("us", tz="UTC")


class Register:
    """The register as it was when this was made. A running group is stopped before it changes."""

    def __init__(self, context: StreamContext) -> None:
        self._table = DeltaWriter(FORGOTTEN_USERS, context)
        rows = self._table.read_arrow().to_pylist()
        self._salt = rows[0]["salt"] if rows else secrets.token_hex(32)
        self._rows = {row["user_hash"]: row for row in rows}

    def hash(self, user: str | bytes) -> str:
        """What the register has instead of this user_id."""
        return hash_user(user, self._salt)

    def row_of(self, user: str) -> dict[str, Any] | None:
        """The user's row."""
        return self._rows.get(self.hash(user))

    def is_half_done(self) -> bool:
        """Whether an erasure was cut short."""
        return any(row["erased_at"] is None for row in self._rows.values())

    def write(self, user: str, row: dict[str, Any]) -> None:
        """Puts these columns (but the hash and the salt) in the place of the user's row."""
        row = {**row, "user_hash": self.hash(user), "salt": self._salt, "id_bytes": len(user.encode())}
        self._rows[row["user_hash"]] = row
        rows = pa.Table.from_pylist([row], build_arrow_schema(FORGOTTEN_USERS))
        info = CommitInfo(CommitKind.FORGOTTEN_USERS, len(self._rows))
        self._table.put(rows, "true", info)

    @property
    def names(self) -> ForgottenNames:
        """The names in it, as a value for any process."""
        return ForgottenNames(self._salt, {key: row["id_bytes"] for key, row in self._rows.items()})


def build_erased(records: pa.Table, was: str | pa.Array, erased_at: datetime | None = None) -> pa.Table:
    """Rows of `ERASED_RECORDS` from records with their coordinates and `arrived_at`; None: erased when they arrived."""
    schema = build_arrow_schema(ERASED_RECORDS)
    rows = records.select([*COORDINATES, "arrived_at"])
    rows = rows.append_column("was", pa.repeat(was, len(rows)) if isinstance(was, str) else was)
    at = rows["arrived_at"] if erased_at is None else pa.repeat(pa.scalar(erased_at, _UTC_MICROS), len(rows))
    return rows.append_column("erased_at", at).cast(schema)


def put_erasure(row: dict[str, Any], table: str, version: int, rows: int) -> dict[str, Any]:
    """The user's row with a commit that took rows out of a table of accepted records."""
    others = json.loads(row.get("earlier_erasures") or "[]")
    if table != _FIRST_TABLE:
        others = [entry for entry in others if entry[::2] != [version, table]]
        return {**row, "earlier_erasures": json.dumps([*others, [version, rows, table]])}
    before = row["events_version"]
    if before is not None and before != version:
        row = {**row, "earlier_erasures": json.dumps([*others, [before, row["events_erased"]]])}
    return {**row, "events_version": version, "events_erased": rows}


def find_erasures(row: Mapping[str, Any], table: str) -> list[tuple[int, int]]:
    """The versions of the table that took rows of the user out, and how many each; of a row by older code too."""
    entries = json.loads(row.get("earlier_erasures") or "[]")
    if row["events_version"] is not None:
        entries.append([row["events_version"], row["events_erased"]])
    return [(version, rows) for version, rows, *name in entries if (name or [_FIRST_TABLE]) == [table]]


def new_row(by: str, reason: str, now: datetime) -> dict[str, Any]:
    """The row of a user whose erasure begins."""
    return {
        "forgotten_at": now, "forgotten_by": by, "reason": reason,
        "events_version": None, "events_erased": 0, "erased_at": None,
    }  # fmt: skip
