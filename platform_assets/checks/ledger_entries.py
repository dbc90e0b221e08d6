"""The accounts of a stream's batches, as its commits and `platform.ledger` have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.folders import Folder

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMMIT_MARK = '{"headrace"'
# A breach is shown by its first examples: a table of a million lost offsets helps nobody.
MAX_EXAMPLES = 5
# The column that has a record's time of arrival, by what became of it.
ARRIVAL_COLUMNS = {
    "accepted": "ingested_at", "quarantined": "quarantined_at", "deduplicated": "deduplicated_at",
    "erased": "arrived_at",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One batch's account of one topic partition, as it rode in the main table's commit.

    `is_compacted`: whether the topic was when the batch found its gaps; None: nobody knows.
    """

    txn_app_id: str
    batch_id: int
    topic: str
    kafka_partition: int
    from_offset: int
    until_offset: int
    rows_in: int
    accepted: int
    quarantined: int
    deduplicated: int
    gaps: tuple[tuple[int, int], ...]
    arrival_micros: int = 0
    erased: int = 0
    is_compacted: bool | None = None


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def place(entry: Entry) -> tuple[str, int, int, int]:
    """What sorts entries by where they read."""
    return entry.topic, entry.kafka_partition, entry.from_offset, entry.until_offset


def read_entries(events: DeltaTable, newest: int | None = None) -> list[Entry]:
    """The accounts of batches (in the `newest` commits; None: all), from the commits themselves, in their order."""
    entries = []
    for commit in reversed(events.history(newest)):
        text = commit.get("userMetadata") or ""
        if text.startswith(COMMIT_MARK):
            body = json.loads(text)["headrace"]
            for part in body.get("partitions", []):
                gaps = tuple((int(start), int(end)) for start, end in part.pop("gaps"))
                common = {"arrival_micros": body.get("arrival_micros", 0), "is_compacted": body.get("is_compacted")}
                entries.append(Entry(txn_app_id=body["app"], batch_id=body["batch"], gaps=gaps, **common, **part))
    return entries


def entries_of_ledger(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The accounts in rows of `platform.ledger`, for commits that the table's log no longer holds."""
    names = Entry.__dataclass_fields__.keys() - {"gaps", "arrival_micros", "erased", "is_compacted"}
    return [
        Entry(
            **{name: row[name] for name in names},
            gaps=msgspec.json.decode(row["gaps"], type=tuple[tuple[int, int], ...]),
            arrival_micros=to_micros(row["arrived_at"]),
            erased=row.get("erased") or 0,
            is_compacted=row.get("is_compacted"),
        )
        for row in rows
    ]


def read_all_entries(query: str, events: DeltaTable, ledger: DeltaTable | None) -> list[Entry]:
    """The accounts of all batches of a query ever, oldest first: from the commits, older ones from `platform.ledger`.

    `events` is the query's main table. `ledger` is None on a platform whose first batches are under way.
    """
    entries = read_entries(events)
    held = {(entry.txn_app_id, entry.batch_id) for entry in entries}
    rows = [] if ledger is None else ledger.to_pyarrow_table().to_pylist()
    rows = [row for row in rows if row["query"] == query]
    rows.sort(key=lambda row: row["table_version"])
    return [e for e in entries_of_ledger(rows) if (e.txn_app_id, e.batch_id) not in held] + entries


def read_checkpoint_batch(checkpoint: Folder) -> int:
    """The newest batch that the query's checkpoint records as done, -1 when none."""
    names = (path.rpartition("/")[2] for path in checkpoint.list_files("commits"))
    return max((int(name) for name in names if name.isdigit()), default=-1)
