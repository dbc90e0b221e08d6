"""What an earlier audit has proved of a stream's tables, and what was appended since: the part that is not proved yet.

A proof holds for a range of offsets and a version of each table. It still stands when all commits since only appended
rows, or rewrote files without changing data. A commit that
removed rows or re-ingested quarantined records ends it, and so does a log that lacks a commit: then everything is
proved again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from platform_assets.checks.ledger_entries import Batches, Entry
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.commit_log import CommitLog

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Files can rot, and rows be changed past the log: once a day everything is read again, whatever the log says.
FULL_AUDIT_EVERY = timedelta(hours=24)
# A batch in flight is among the newest commits of a table; reading all of a long log takes seconds.
NEWEST_COMMITS = 100


@dataclass(frozen=True)
class Proof:
    """Each offset before `until` ([topic, partition, offset]) is in exactly one place, at these versions of the tables.

    `tables` maps each outcome to the table's id and version. `totals` are those of all that is proved; `full_at` is
    when all of it was read.
    """

    tables: Mapping[str, tuple[str, int]]
    until: tuple[tuple[str, int, int], ...]
    totals: Mapping[str, int]
    full_at: str

    def dump(self) -> str:
        """The proof as text, for `load`."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def load(text: str | None) -> Proof | None:
        """The proof; None for a text that no version of ours has written."""
        try:
            proof = msgspec.json.decode(text or "", type=Proof)
            return None if datetime.fromisoformat(proof.full_at).tzinfo is None else proof
        except ValueError:
            return None

    def is_recent(self, now: datetime) -> bool:
        """Whether everything was read lately."""
        return timedelta(0) <= now - datetime.fromisoformat(self.full_at) < FULL_AUDIT_EVERY

    def as_entries(self) -> list[Entry]:
        """Each proved range as an entry without records: the next batch must begin at its end."""
        return [Entry("proved", -1, topic, p, until, until, 0, 0, 0, 0, ()) for topic, p, until in self.until]


@dataclass(frozen=True)
class Appended:
    """What commits after a proof have appended to one table: files (paths below it), and the query's batches."""

    files: tuple[str, ...]
    batches: tuple[tuple[int, str, int], ...]
    """(version, transaction's application, batch), oldest first."""

    def proved_version(self, newest: int, done: Batches) -> int:
        """The version before the batch in flight: before the newest ones that are not `done`."""
        for version, app, batch in reversed(self.batches):
            if (app, batch) in done:
                break
            newest = version - 1
        return newest


def find_appended(query: str, table: DeltaTable, log: CommitLog, since: tuple[str, int]) -> Appended | None:
    """What was appended after `since` (the table's id and version); None where that cannot be said, or is not all."""
    identity, version = since
    if str(table.metadata().id) != identity or table.version() < version:
        return None
    files: list[str] = []
    for number in range(version + 1, table.version() + 1):
        commit = log.read(number)
        if commit is None or commit.rewrites or commit.requeues:
            return None
        files += [file.path for file in commit.files]
    return Appended(tuple(files), find_batches(query, table, table.version() - version).batches if files else ())


def find_batches(query: str, table: DeltaTable, newest: int) -> Appended:
    """The batches of a query in the `newest` commits of a table, without their files."""
    batches = []
    for entry in reversed(table.history(newest)):
        info = CommitInfo.parse(entry.get("userMetadata"))
        if info is not None and info.transaction is not None and info.query == query:
            batches.append((int(entry["version"]), *info.transaction))
    return Appended((), tuple(batches))


def open_files(table: DeltaTable, log: CommitLog, files: Sequence[str]) -> Any:
    """The appended files as an Arrow dataset; of no files, an empty table with the table's columns."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not files:
        return pa.schema(table.schema().to_arrow()).empty_table()
    return ds.dataset(list(files), filesystem=log.filesystem, format="parquet", partitioning=None)
