"""The accounts of a stream's batches, as its commits and `platform.ledger` have them.

Accounts of the ledger are read rolled up (`streaming.ledgers.rolled_up`), which leaves every fault as it is: a second
of years is a second of memory otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from platform_assets.streaming.ledgers.platform_tables import name_projection

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from platform_assets.folders import Folder

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMMIT_MARK = '{"headrace"'
# A breach is shown by its first examples: a table of a million lost offsets helps nobody.
MAX_EXAMPLES = 5
# A topic of transactions has a gap for each: 86,400 in the row of a day with one a second.
_LONG_GAPS = 10_000
# The column that has a record's time of arrival, by what became of it.
ARRIVAL_COLUMNS = {
    "accepted": "ingested_at", "quarantined": "quarantined_at", "deduplicated": "deduplicated_at",
    "erased": "arrived_at",
}  # fmt: skip


class StoredGaps:
    """Gaps as a row of `platform.ledger` has them, read anew each time: in memory each would take six times as much."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The gaps [from, until)."""
        return iter(msgspec.json.decode(self._text, type=tuple[tuple[int, int], ...]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (StoredGaps, tuple)) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True)
class Entry:
    """One batch's account of one topic partition, as it rode in the main table's commit; or that of several together.

    `is_compacted`: whether the topic was when the batch found its gaps; None: nobody knows. Of several batches of a day
    that read on from one another `first_batch_id` is the first; `batch_id` and the arrival are those of the last.
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
    gaps: tuple[tuple[int, int], ...] | StoredGaps
    arrival_micros: int = 0
    erased: int = 0
    is_compacted: bool | None = None
    first_batch_id: int | None = None

    @property
    def first(self) -> int:
        """The first batch."""
        return self.batch_id if self.first_batch_id is None else self.first_batch_id


class Batches:
    """The batches of these accounts: each as (transaction's application, number)."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        spans: dict[str, list[list[int]]] = {}
        for entry in sorted(entries, key=lambda entry: entry.first):
            own = spans.setdefault(entry.txn_app_id, [])
            if own and entry.first <= own[-1][1] + 1:
                own[-1][1] = max(own[-1][1], entry.batch_id)
            else:
                own.append([entry.first, entry.batch_id])
        self._spans = spans

    def __contains__(self, batch: tuple[str, int]) -> bool:
        """Whether an account has this batch."""
        app, number = batch
        return any(first <= number <= last for first, last in self._spans.get(app, ()))

    def __len__(self) -> int:
        """How many there are. Batches of a query have their numbers without a gap: those between are counted too."""
        return sum(last - first + 1 for spans in self._spans.values() for first, last in spans)


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
    names = Entry.__dataclass_fields__.keys() - {"gaps", "arrival_micros", "erased", "is_compacted", "first_batch_id"}
    return [
        Entry(
            **{name: row[name] for name in names},
            gaps=_read_gaps(row["gaps"]),
            arrival_micros=to_micros(row["arrived_at"]),
            erased=row.get("erased") or 0,
            is_compacted=row.get("is_compacted"),
            first_batch_id=row.get("first_batch_id"),
        )
        for row in rows
    ]


def _read_gaps(text: str) -> tuple[tuple[int, int], ...] | StoredGaps:
    gaps = StoredGaps(text)
    return tuple(gaps) if len(text) < _LONG_GAPS else gaps


def read_all_entries(
    query: str, events: DeltaTable, ledger: DeltaTable | None, lost_ranges: Iterable[Mapping[str, Any]] = ()
) -> list[Entry]:
    """The accounts of all batches of a query ever, oldest first: from `platform.ledger`, newer ones from the commits.

    `events` is the query's main table. `ledger` is None on a platform whose first batches are under way. Accounts are
    not joined where a log began again (`lost_ranges`).
    """
    import pyarrow.compute as pc

    from platform_assets.streaming.ledgers.rolled_up import find_cuts, read_rolled_up

    if ledger is None:
        return read_entries(events)
    # The ledger may be newer than the table is here: a batch that it has and the table has not would be lost.
    known = pc.field("table_version") <= events.version()
    rows = read_rolled_up(ledger, query, find_cuts(lost_ranges), known).sort_by("table_version").to_pylist()
    return _add_newer(query, events, ledger, entries_of_ledger(rows))


def read_entries_with(
    query: str, events: DeltaTable, ledger: DeltaTable | None, offsets: Mapping[int, Collection[int]]
) -> list[Entry]:
    """The accounts of `read_all_entries` with one of these offsets, by partition, of a topic; oldest first.

    They are of one batch each where that is kept. Of a day that is rolled up it is the account of many batches.
    """
    import numpy as np
    import pyarrow.compute as pc

    from platform_assets.streaming.ledgers.rolled_up import read_rows

    wanted = {partition: np.unique(list(own)) for partition, own in offsets.items() if own}

    def has(entry: Entry) -> bool:
        own = wanted.get(entry.kafka_partition)
        low, high = (0, 0) if own is None else np.searchsorted(own, [entry.from_offset, entry.until_offset])
        return bool(low < high)

    if ledger is None or not wanted:
        return [entry for entry in read_entries(events) if has(entry)] if wanted else []
    low, high = min(own[0] for own in wanted.values()), max(own[-1] for own in wanted.values())
    is_near = (pc.field("from_offset") <= int(high)) & (pc.field("until_offset") > int(low))
    rows = [
        row
        for portion in read_rows(ledger, query, is_near & pc.field("kafka_partition").isin(list(wanted)))
        for row in portion.filter(_find_holding(portion, wanted)).to_pylist()
    ]
    rows.sort(key=lambda row: row["table_version"])
    return _add_newer(query, events, ledger, entries_of_ledger(rows), has)


def _find_holding(rows: pa.Table, wanted: Mapping[int, Any]) -> pa.Array:
    """Which rows have one of these sorted offsets of their partition."""
    import numpy as np
    import pyarrow as pa

    names = ("kafka_partition", "from_offset", "until_offset")
    partitions, start, end = (rows[name].to_numpy() for name in names)
    found = np.zeros(len(rows), bool)
    for partition, offsets in wanted.items():
        holds = np.searchsorted(offsets, start) < np.searchsorted(offsets, end)
        found |= holds & (partitions == partition)
    return pa.array(found)


def _add_newer(
    query: str, events: DeltaTable, ledger: DeltaTable, known: list[Entry],
    is_wanted: Callable[[Entry], bool] = lambda _: True,
) -> list[Entry]:  # fmt: skip
    """The accounts that are known from the ledger, and those of commits that are not in it yet."""
    written = ledger.transaction_version(name_projection(query))
    unseen = events.version() - (-1 if written is None else written)
    newer = read_entries(events, unseen) if unseen > 0 else []
    held = Batches(known)  # a ledger that was copied without its log says nothing of its version
    return known + [entry for entry in newer if is_wanted(entry) and (entry.txn_app_id, entry.batch_id) not in held]


def read_checkpoint_batch(checkpoint: Folder) -> int:
    """The newest batch that the query's checkpoint records as done, -1 when none."""
    names = (path.rpartition("/")[2] for path in checkpoint.list_files("commits"))
    return max((int(name) for name in names if name.isdigit()), default=-1)
