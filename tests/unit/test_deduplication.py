"""The index of recent ids against a plain list of what was accepted, over random batches and their replays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.ingest.deduplication import (
    Duplicates,
    Known,
    RecentIds,
    pack_coordinates,
    unpack_coordinates,
)

HORIZON = 10


@dataclass(frozen=True)
class Record:
    identity: int
    partition: int
    offset: int
    content: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.partition, self.offset


# Identity, partition, content.
records = st.tuples(st.integers(0, 8), st.integers(0, 2), st.integers(0, 1))
batches_of_ids = st.lists(st.tuples(st.integers(0, 6), st.lists(records, max_size=12)), max_size=12)


def find(recent: RecentIds, batch: list[Record], arrival: int, first_offsets: dict[int, int]) -> Duplicates:
    return recent.find_duplicates(*columns(batch), arrival, first_offsets)


def columns(batch: list[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # Few first hashes for many ids: collisions in half of the bits must not make duplicates.
    identities = np.array([record.identity for record in batch], dtype=np.int64)
    partitions = np.array([record.partition for record in batch], dtype=np.int64)
    offsets = np.array([record.offset for record in batch], dtype=np.int64)
    contents = np.array([record.content for record in batch], dtype=np.int64)
    return identities % 3, identities, pack_coordinates(partitions, offsets), contents


def pairs(batch: list[Record], found: Duplicates) -> set[tuple[tuple[int, int], tuple[int, int], bool]]:
    each = zip(found.positions, found.kept, found.is_same, strict=True)
    return {(batch[own].place, unpack_coordinates(int(kept)), bool(same)) for own, kept, same in each}


@given(batches_of_ids)
def test_duplicates_are_those_of_a_plain_list_and_a_replay_agrees(
    batches: list[tuple[int, list[tuple[int, int, int]]]],
) -> None:
    recent, accepted, arrival = RecentIds(HORIZON), list[tuple[Record, int]](), 0
    next_offsets = {0: 0, 1: 0, 2: 0}
    for pause, content in batches:
        arrival += pause
        first_offsets = dict(next_offsets)
        batch = []
        for identity, partition, said in content:
            batch.append(Record(identity, partition, next_offsets[partition], said))
            next_offsets[partition] += 1

        expected = set()
        fresh: list[Record] = []
        for record in sorted(batch, key=lambda r: r.place):
            kept = [r for r, at in accepted if r.identity == record.identity and at > arrival - HORIZON]
            kept += [r for r in fresh if r.identity == record.identity]
            if kept:
                expected.add((record.place, kept[0].place, record.content == kept[0].content))
            else:
                fresh.append(record)

        assert pairs(batch, find(recent, batch, arrival, first_offsets)) == expected
        recent.add(*columns(fresh), np.full(len(fresh), arrival, dtype=np.int64))
        accepted += [(record, arrival) for record in fresh]
        # A crash after the commit: the batch runs again while the index, read from the table, has its rows already.
        assert pairs(batch, find(recent, batch, arrival, first_offsets)) == expected


def test_ids_beyond_the_horizon_are_forgotten() -> None:
    recent = RecentIds(HORIZON)
    for arrival in range(0, 1_000, 5):
        batch = [Record(arrival * 10 + n, 0, arrival * 10 + n) for n in range(10)]
        recent.add(*columns(batch), np.full(10, arrival, dtype=np.int64))
    assert len(recent) < 200


def test_of_one_batch_only_the_record_that_repeats_an_older_event_is_no_new_one() -> None:
    """All three have one id. The second one is sent again after days, the others are another event, twice."""
    batch = [Record(7, 0, 10, content=1), Record(7, 0, 11, content=2), Record(7, 0, 12, content=1)]
    nowhere = np.full(3, -1, dtype=np.int64)
    older = Known(nowhere, np.array([0, 2, 0], dtype=np.int64))
    older.coordinates[1] = pack_coordinates(np.array([2]), np.array([5]))[0]
    found = RecentIds(HORIZON).find_duplicates(*columns(batch), 1_000, {0: 10}, older)
    assert pairs(batch, found) == {((0, 11), (2, 5), True), ((0, 12), (0, 10), True)}
