"""Which events repeat one that was accepted before, counted by arrival.

The truth is `silver.events` itself: at a start the index is read back from the table, so there is no second state
that could disagree with it, and a new checkpoint remembers what the old one accepted. An event_id is known by 128
bits of SipHash (two keys): at a billion ids the chance of one wrong verdict is below 1e-20. Memory: 40 bytes an
event within the horizon (2,000 events/s for an hour: 290 MB at most, in the driver). What was accepted before the
horizon is looked up in the table: see `sent_again`.

An id counts as accepted before a batch unless it was accepted by this batch's own earlier run: a replay, with the
batch's rows already in the table, gives the same verdicts as the first run. A batch is known by its time, which a
replay keeps, together with its offsets: a topic that was created again begins at offset 0 anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from platform_assets.streaming.arrays import Int64s

# Kafka offsets stay below 2^47 for centuries at any rate; the partition takes the bits above.
OFFSET_BITS = 47
# Any two different keys of 16 characters. The index lives in memory only: nothing depends on them.
_HASH_KEYS = ("headrace dedup 1", "headrace dedup 2")


def pack_coordinates(partitions: Int64s, offsets: Int64s) -> Int64s:
    """(kafka_partition, kafka_offset) as one sortable number each: partition first, then offset."""
    return (partitions.astype(np.int64) << OFFSET_BITS) | offsets


def unpack_coordinates(packed: int) -> tuple[int, int]:
    """The inverse of `pack_coordinates` for one number."""
    return packed >> OFFSET_BITS, packed & ((1 << OFFSET_BITS) - 1)


def hash_ids(event_ids: pa.ChunkedArray) -> tuple[Int64s, Int64s]:
    """Two independent 64-bit hashes (SipHash under two keys) of each id. Stable within one release of pandas only."""
    import pandas as pd

    texts = event_ids.to_numpy()
    first, second = (pd.util.hash_array(texts, hash_key=key, categorize=False) for key in _HASH_KEYS)
    return first.view(np.int64), second.view(np.int64)


def _sort_records(hash1: Int64s, hash2: Int64s, coordinates: Int64s) -> Int64s:
    """The order by (hash1, hash2, coordinates); of one Kafka record's by their own order."""
    # Sorting by three columns takes ten times as long as by one, of which few values are equal.
    order = np.argsort(hash1)
    by_hash1 = hash1[order]
    is_tied = np.zeros(len(order), dtype=bool)
    is_tied[1:] = by_hash1[1:] == by_hash1[:-1]
    is_tied[:-1] |= is_tied[1:]
    tied = order[is_tied]
    order[is_tied] = tied[np.lexsort((tied, coordinates[tied], hash2[tied], hash1[tied]))]
    return order


@dataclass(frozen=True)
class AcceptedIds:
    """A run of accepted ids, sorted by hash1. `arrivals` are microseconds since the epoch.

    `contents` are numbers that are equal for events of equal content.
    """

    hash1: Int64s
    hash2: Int64s
    coordinates: Int64s
    arrivals: Int64s
    contents: Int64s

    @staticmethod
    def of(hash1: Int64s, hash2: Int64s, coordinates: Int64s, arrivals: Int64s, contents: Int64s) -> AcceptedIds:
        """Sorts the columns into a run."""
        # Two runs, one behind the other, are merged by this kind of sorting; others begin anew.
        order = np.argsort(hash1, kind="stable")
        return AcceptedIds(hash1[order], hash2[order], coordinates[order], arrivals[order], contents[order])

    def merge(self, other: AcceptedIds, oldest_arrival: int) -> AcceptedIds:
        """One run of both, without ids that arrived at or before `oldest_arrival`."""
        columns = [
            np.concatenate((getattr(self, name), getattr(other, name)))
            for name in ("hash1", "hash2", "coordinates", "arrivals", "contents")
        ]
        kept = columns[3] > oldest_arrival
        return AcceptedIds.of(*(column[kept] for column in columns))


@dataclass(frozen=True)
class Duplicates:
    """Records that repeat an accepted event, in order: parallel arrays of where they stand and of what was kept.

    `positions` are those in the arrays that were looked through: the coordinates of records of one list are the same.
    `kept` are the kept one's packed coordinates; `is_same`: whether the record says the same as the one that was kept.
    """

    positions: Int64s
    kept: Int64s
    is_same: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Known:
    """The accepted event that each record of a batch repeats: its place (-1 for none) and what it says."""

    coordinates: Int64s
    contents: Int64s

    @staticmethod
    def nothing(records: int) -> Known:
        """No record of the batch repeats another."""
        return Known(np.full(records, -1, dtype=np.int64), np.zeros(records, dtype=np.int64))

    @staticmethod
    def concat(parts: Sequence[Known]) -> Known:
        """The same of the records of several parts, one after another."""
        return Known(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("coordinates", "contents")))

    def take(self, order: Int64s) -> Known:
        """The same of the records in this order, to be added to."""
        return Known(self.coordinates[order], self.contents[order])


class RecentIds:
    """The ids accepted within the horizon. Used by one stream's writer, from one thread."""

    def __init__(self, horizon_micros: int) -> None:
        self._horizon_micros = horizon_micros
        self._runs: list[AcceptedIds] = []

    def __len__(self) -> int:
        return sum(len(run.hash1) for run in self._runs)

    def find_duplicates(
        self,
        hash1: Int64s,
        hash2: Int64s,
        coordinates: Int64s,
        contents: Int64s,
        arrival: int,
        first_offsets: Mapping[int, int],
        older: Known | None = None,
    ) -> Duplicates:
        """The records among these that repeat one another or an id accepted within the horizon before `arrival`.

        Of those of a batch that repeat nothing else the lowest (kafka_partition, kafka_offset) is kept, of those of one
        list the first; the records of a list stand together, in their order. `first_offsets`
        are the batch's first offsets a partition: ids kept at or after them, at `arrival`, belong to this batch's own
        earlier run and do not count. `older` says which of the records repeat one from before the horizon: another
        record of the same id may be another event, for it has another time.
        """
        order = _sort_records(hash1, hash2, coordinates)
        h1, h2, own, said = hash1[order], hash2[order], coordinates[order], contents[order]
        known = Known.nothing(len(own)) if older is None else older.take(order)
        for run in self._runs:
            self._look_up(run, h1, h2, arrival, first_offsets, known)
        (new,) = np.nonzero(known.coordinates < 0)
        repeats = np.zeros(len(new), dtype=bool)
        repeats[1:] = (h1[new][1:] == h1[new][:-1]) & (h2[new][1:] == h2[new][:-1])
        # What a repeat within the batch repeats is the first of its id: the last position that is no repeat.
        first_of_id = new[np.maximum.accumulate(np.where(repeats, 0, np.arange(len(new))))]
        kept, kept_says, found = known.coordinates, known.contents, known.coordinates >= 0
        kept[new], kept_says[new], found[new] = own[first_of_id], said[first_of_id], repeats
        positions = order[found]
        by_position = np.argsort(positions)
        return Duplicates(positions[by_position], kept[found][by_position], (said == kept_says)[found][by_position])

    def add(self, hash1: Int64s, hash2: Int64s, coordinates: Int64s, contents: Int64s, arrivals: Int64s) -> None:
        """Remembers accepted ids and forgets those beyond the horizon before the newest arrival."""
        if not len(hash1):
            return
        oldest = int(arrivals.max()) - self._horizon_micros
        self._runs.append(AcceptedIds.of(hash1, hash2, coordinates, arrivals, contents))
        # Runs grow geometrically, so that a look-up meets few of them and a merge is paid rarely.
        while len(self._runs) > 1 and len(self._runs[-1].hash1) * 2 > len(self._runs[-2].hash1):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(older.merge(newer, oldest))
        self._runs = [run for run in self._runs if len(run.arrivals) and int(run.arrivals.max()) > oldest]

    def _look_up(
        self, run: AcceptedIds, h1: Int64s, h2: Int64s, arrival: int, first_offsets: Mapping[int, int], known: Known
    ) -> None:
        left = np.searchsorted(run.hash1, h1, side="left")
        hits = np.flatnonzero((left < len(run.hash1)) & (run.hash1[np.minimum(left, len(run.hash1) - 1)] == h1))
        for hit in hits:
            position = int(left[hit])
            while position < len(run.hash1) and run.hash1[position] == h1[hit]:
                if run.hash2[position] == h2[hit] and run.arrivals[position] > arrival - self._horizon_micros:
                    partition, offset = unpack_coordinates(int(run.coordinates[position]))
                    counts = offset < first_offsets.get(partition, offset + 1) or run.arrivals[position] != arrival
                    if counts and run.coordinates[position] > known.coordinates[hit]:
                        known.coordinates[hit] = run.coordinates[position]
                        known.contents[hit] = run.contents[position]
                position += 1
