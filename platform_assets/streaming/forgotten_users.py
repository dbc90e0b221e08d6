"""Who is to be forgotten, and which records were erased for that: what every reader of Kafka goes by from then on.

The register has no names: only a hash of each, salted, so that it can't be looked up in a list of hashes made before.
Whoever has both the table and a list of candidates can try them; that is what a register that still works must allow.
The salt is made with the first row. Lose the register, and the next read of Kafka brings its users back.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.batch_table import BatchTable
from platform_assets.streaming.delta_tables import build_arrow_schema
from platform_assets.tables.platform import ERASED_RECORDS, FORGOTTEN_USERS

if TYPE_CHECKING:
    import numpy.typing as npt

    from platform_assets.streaming.context import StreamContext

_UTC_MICROS = pa.timestamp("us", tz="UTC")


class Register:
    """The register as it was when this was made. A running group is stopped before it changes."""

    def __init__(self, context: StreamContext) -> None:
        self._table = BatchTable(FORGOTTEN_USERS, context)
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
        row = {**row, "user_hash": self.hash(user), "salt": self._salt}
        self._rows[row["user_hash"]] = row
        rows = pa.Table.from_pylist([row], build_arrow_schema(FORGOTTEN_USERS))
        self._table.replace(rows, rows.slice(0, 0), "true", {"forgotten_users": len(self._rows)})

    def find(self, users: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Which of these user_ids are forgotten; a null is nobody."""
        if not self._rows or not len(users):
            return np.zeros(len(users), bool)
        texts = users.cast(pa.string())
        known = [user for user in pc.unique(texts).to_pylist() if user is not None and self.hash(user) in self._rows]
        return np.array(pc.is_in(texts, value_set=pa.array(known, pa.string())).to_numpy(), bool)

    def find_records(self, records: pa.Table) -> npt.NDArray[np.bool_]:
        """Which parsed records (`event_parser.PARSED_SCHEMA`) are of a forgotten user.

        A rejected one by its key, and by the `user_id` of its text where that is JSON.
        """
        found = self.find(records.column("user_id"))
        if not self._rows:
            return found
        rejected = np.flatnonzero(records.column("reason").is_valid().to_numpy())
        if len(rejected):
            raw = records.select(["key", "value"]).take(rejected).to_pylist()
            found[rejected] = [any(self.hash(user) in self._rows for user in find_users(**row)) for row in raw]
        return found


def hash_user(user: str | bytes, salt: str) -> str:
    """The column `user_hash`."""
    text = user.encode() if isinstance(user, str) else user
    return hmac.new(bytes.fromhex(salt), text, hashlib.sha256).hexdigest()


def find_users(key: bytes | None, value: bytes | None) -> Sequence[str | bytes]:
    """Whose a record may be that the parser has refused."""
    _, named = _read_user(value or b"")
    return [user for user in (key, named) if user is not None]


def is_record_of(user: str, value: bytes) -> bool:
    """Whether a refused record is the user's: by its `user_id`, where it is not JSON by the name as a word in it."""
    is_json, named = _read_user(value)
    if is_json:
        return named == user
    return re.search(rb"(?<![\w-])" + re.escape(user.encode()) + rb"(?![\w-])", value) is not None


def _read_user(value: bytes) -> tuple[bool, str | None]:
    """Whether a value is JSON, and the `user_id` in it."""
    try:
        content = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False, None
    named = content.get("user_id") if isinstance(content, dict) else None
    return True, str(named) if isinstance(named, (str, int)) else None


def build_erased(records: pa.Table, was: str, erased_at: datetime | None = None) -> pa.Table:
    """Rows of `ERASED_RECORDS` from records with their coordinates and `arrived_at`; None: erased when they arrived."""
    schema = build_arrow_schema(ERASED_RECORDS)
    rows = records.select(["topic", "kafka_partition", "kafka_offset", "arrived_at"])
    rows = rows.append_column("was", pa.repeat(was, len(rows)))
    at = rows["arrived_at"] if erased_at is None else pa.repeat(pa.scalar(erased_at, _UTC_MICROS), len(rows))
    return rows.append_column("erased_at", at).cast(schema)


def new_row(by: str, reason: str, now: datetime) -> dict[str, Any]:
    """Of a user whose erasure begins."""
    return {
        "forgotten_at": now, "forgotten_by": by, "reason": reason,
        "events_version": None, "events_erased": 0, "erased_at": None,
    }  # fmt: skip
