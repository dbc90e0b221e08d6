"""Ranges of offsets, and when the batch that read a record had its time, compared with sets of single offsets."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.operations.replay.kafka_records import find_arrivals, intersect, merge_ranges
from platform_assets.checks.ledger_entries import Entry
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange

pytestmark = pytest.mark.unit


def entry(partition: int, start: int, until: int, arrival: int = 0) -> Entry:
    return Entry("app", 1, "t", partition, start, until, 0, 0, 0, 0, (), arrival)


def offsets(ranges: list[OffsetRange]) -> set[tuple[int, int]]:
    return {(r.kafka_partition, offset) for r in ranges for offset in range(r.from_offset, r.until_offset)}


places = st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 8))
entries = st.lists(places.map(lambda p: entry(p[0], p[1], p[1] + p[2])), max_size=12)


@given(entries)
def test_merged_ranges_are_what_was_read_and_do_not_touch(read: list[Entry]) -> None:
    merged = merge_ranges(read)
    assert offsets(merged) == {(e.kafka_partition, o) for e in read for o in range(e.from_offset, e.until_offset)}
    for one in merged:
        for other in merged:
            if one is not other and one.kafka_partition == other.kafka_partition:
                assert one.until_offset < other.from_offset or other.until_offset < one.from_offset


@given(entries, st.lists(places, max_size=4))
def test_an_intersection_is_what_both_have(read: list[Entry], asked: list[tuple[int, int, int]]) -> None:
    wanted = [OffsetRange("t", p, start, start + length) for p, start, length in asked]
    found = intersect(wanted, merge_ranges(read))
    assert offsets(found) == offsets(wanted) & offsets(merge_ranges(read))
    assert all(r.length > 0 for r in found)
    assert intersect([OffsetRange("other", 0, 0, 100)], merge_ranges(read)) == []


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=20), st.randoms())
def test_a_record_arrives_with_the_batch_that_read_it(batches: list[tuple[int, int]], shuffler: Random) -> None:
    ends, read = {0: 0, 1: 5}, []
    expected: dict[tuple[int, int], int] = {}
    for number, (partition, length) in enumerate(batches):
        start = ends[partition]
        ends[partition] = start + length
        read.append(entry(partition, start, start + length, 1000 + number))
        expected |= {(partition, offset): 1000 + number for offset in range(start, start + length)}
    asked = list(expected)
    shuffler.shuffle(asked)
    table = pa.table(
        {
            "kafka_partition": pa.array([p for p, _ in asked], pa.int32()),
            "kafka_offset": pa.array([o for _, o in asked], pa.int64()),
        }
    )
    assert find_arrivals(read, table).tolist() == [expected[place] for place in asked]
