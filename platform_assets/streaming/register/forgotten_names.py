"""The names of forgotten users, as a value for any process: it finds rows and raw records that name them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.formats.json_forms import ReadForm, find_no_form
from platform_assets.streaming.register.named_users import Mention, judge_record, list_headers
from platform_assets.streaming.register.sought_names import Sought
from platform_assets.tables.spec import EventRoles

if TYPE_CHECKING:
    import numpy.typing as npt

# Names of fields and values that are the same in many records.
_WORDS_KEPT = 100_000
_LONGEST_KEPT = 256


@dataclass(frozen=True)
class ForgottenNames:
    """The names' salted hashes, each with the name's length in bytes; None of one by older code: nobody knows it."""

    salt: str = field(repr=False)
    id_bytes: Mapping[str, int | None]

    def __reduce__(self) -> tuple[Any, ...]:
        # What was looked up stays behind: it is a cache of this process.
        return ForgottenNames, (self.salt, dict(self.id_bytes))

    def hash(self, user: str | bytes) -> str:
        """What the register has instead of this user_id."""
        return hash_user(user, self.salt)

    def find(self, users: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
        """Which of these user_ids are forgotten; a null is nobody."""
        if not self.id_bytes or not len(users):
            return np.zeros(len(users), bool)
        texts = users.cast(pa.string())
        known = [user for user in pc.unique(texts).to_pylist() if user is not None and self.hash(user) in self.id_bytes]
        return np.array(pc.is_in(texts, value_set=pa.array(known, pa.string())).to_numpy(zero_copy_only=False), bool)

    def find_rows(self, rows: pa.Table | pa.RecordBatch, user_column: str | None) -> npt.NDArray[np.bool_]:
        """Which of these rows are of forgotten users; none where no column names users."""
        return np.zeros(len(rows), bool) if user_column is None else self.find(rows.column(user_column))

    def judge_records(
        self, records: pa.Table, roles: EventRoles, read_form: ReadForm = find_no_form
    ) -> npt.NDArray[np.int8]:
        """How each parsed record of a topic names a forgotten user, a `Mention`; `roles` are those of its table.

        An accepted one by its user alone; a rejected one by all that is in its key and its value, by `read_form` too.
        """
        found = np.where(self.find_rows(records, roles.user_id), Mention.CERTAIN, Mention.NONE).astype(np.int8)
        if self.id_bytes:
            rejected = np.flatnonzero(records.column("_reason").is_valid().to_numpy())
            names = [name for name in ("_key", "_value", "_headers") if name in records.schema.names]
            raw = records.select(names).take(rejected).to_pylist()
            sought = replace(self._sought, fields=frozenset(roles.user_fields), read_form=read_form)
            found[rejected] = [
                judge_record(row["_key"], row["_value"], sought, list_headers(row.get("_headers"))) for row in raw
            ]
        return found

    @cached_property
    def _sought(self) -> Sought:
        lengths = frozenset(self.id_bytes.values())
        kept = lru_cache(_WORDS_KEPT)(lambda text: self.hash(text) in self.id_bytes)

        def holds(text: bytes) -> bool:
            if None not in lengths and len(text) not in lengths:
                return False
            # What is kept is bounded in bytes too: a value of a record may be a page of HTML.
            return kept(text) if len(text) <= _LONGEST_KEPT else self.hash(text) in self.id_bytes

        return Sought(holds, lengths)


def hash_user(user: str | bytes, salt: str) -> str:
    """The column `user_hash` of the register."""
    text = user.encode() if isinstance(user, str) else user
    return hmac.digest(bytes.fromhex(salt), text, "sha256").hex()
