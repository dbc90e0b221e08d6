"""The register of forgotten users and of the records erased for them, which every reader of Kafka obeys.

The register has no names: only a hash of each, salted, so that it can't be looked up in a list of hashes made before,
and how long the name is, so that it is found as a word in a text.
A reader with both the table and a list of candidates can try them: a register that works must allow that.
The salt is made with the first row. Lose the register, and the next read of Kafka brings its users back.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.register.named_users import Mention, Sought, judge_record
from platform_assets.tables.coordinates import COORDINATES
from platform_assets.tables.platform import ERASED_RECORDS, FORGOTTEN_USERS
from platform_assets.tables.spec import EventRoles

if TYPE_CHECKING:
    import numpy.typing as npt

    from platform_assets.streaming.context import StreamContext

ON_ARRIVAL, UNSURE_ON_ARRIVAL = "on_arrival", "unsure_on_arrival"
"""The column `was` of a record that had come into no table: it was a forgotten user's, or may have been."""

# Rows of the register by code that knew one topic name no table, and have columns for this one.
_FIRST_TABLE = "silver.events"
_UTC_MICROS = pa.timestamp("us", tz="UTC")
# Names of fields and values that are the same in many records.
_WORDS_KEPT = 100_000
_LONGEST_KEPT = 256


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

    def find(self, users: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
        """Which of these user_ids are forgotten; a null is nobody."""
        if not self._rows or not len(users):
            return np.zeros(len(users), bool)
        texts = users.cast(pa.string())
        known = [user for user in pc.unique(texts).to_pylist() if user is not None and self.hash(user) in self._rows]
        return np.array(pc.is_in(texts, value_set=pa.array(known, pa.string())).to_numpy(zero_copy_only=False), bool)

    def find_rows(self, rows: pa.Table | pa.RecordBatch, user_column: str | None) -> npt.NDArray[np.bool_]:
        """Which of these rows are of forgotten users; none where no column names users."""
        return np.zeros(len(rows), bool) if user_column is None else self.find(rows.column(user_column))

    def judge_records(self, records: pa.Table, roles: EventRoles) -> npt.NDArray[np.int8]:
        """How each parsed record of a topic names a forgotten user, a `Mention`; `roles` are those of its table.

        An accepted one by its user alone; a rejected one by all that is in its key and its value.
        """
        found = np.where(self.find_rows(records, roles.user_id), Mention.CERTAIN, Mention.NONE).astype(np.int8)
        if self._rows:
            rejected = np.flatnonzero(records.column("_reason").is_valid().to_numpy())
            raw = records.select(["_key", "_value"]).take(rejected).to_pylist()
            sought = replace(self._sought, fields=frozenset(roles.user_fields))
            found[rejected] = [judge_record(row["_key"], row["_value"], sought) for row in raw]
        return found

    @cached_property
    def _sought(self) -> Sought:
        """All who are forgotten. Of a row by older code nobody knows how long the name is."""
        lengths = frozenset(row["id_bytes"] for row in self._rows.values())
        kept = lru_cache(_WORDS_KEPT)(lambda text: self.hash(text) in self._rows)

        def holds(text: bytes) -> bool:
            if None not in lengths and len(text) not in lengths:
                return False
            # What is kept is bounded in bytes too: a value of a record may be a page of HTML.
            return kept(text) if len(text) <= _LONGEST_KEPT else self.hash(text) in self._rows

        return Sought(holds, lengths)


def hash_user(user: str | bytes, salt: str) -> str:
    """The column `user_hash`."""
    text = user.encode() if isinstance(user, str) else user
    return hmac.digest(bytes.fromhex(salt), text, "sha256").hex()


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
