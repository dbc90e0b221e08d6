"""How a batch whose records do not fit the memory is cut, and that verdicts do not depend on it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.batch_records import pack, share_out
from platform_assets.streaming.ingest.record_parser import build_parser, read_messages
from platform_assets.topics.events import TOPIC

ARRIVAL = 1_790_000_000_000_000
KAFKA = pa.schema(
    {
        "key": pa.binary(), "value": pa.binary(), "partition": pa.int32(), "offset": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
)  # fmt: skip


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=50), st.integers(2, 10**9))
def test_shares_are_for_all_who_have_records_and_no_more_than_there_is(lengths: list[int], limit: int) -> None:
    shares = share_out([OffsetRange("t", p, 0, length) for p, length in enumerate(lengths)], limit)
    assert sum(shares.values()) <= limit
    assert shares.keys() == {p for p, length in enumerate(lengths) if length}
    assert all(share >= limit // 2 // len(shares) for share in shares.values())


def test_a_batch_without_offsets_has_no_shares() -> None:
    assert share_out([OffsetRange("t", 0, 7, 7)], 100) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=40), st.integers(1, 20))
def test_portions_hold_each_piece_once_and_no_more_than_fits(weights: list[tuple[int, int]], limit: int) -> None:
    reached = dict.fromkeys(range(4), 100)
    pieces = []
    for partition, weight in sorted(weights):
        reached[partition] += weight
        pieces.append((partition, reached[partition], weight))
    portions = pack([OffsetRange("t", p, 100, 10_000) for p in range(4)], pieces, limit)
    # Here each offset weighs one.
    assert all(sum(r.length for r in ranges) <= limit or len(ranges) == 1 for ranges in portions)
    read = {p: [r for ranges in portions for r in ranges if r.kafka_partition == p] for p in range(4)}
    for partition, ranges in read.items():
        assert sum(r.length for r in ranges) == reached[partition] - 100
        assert all(one.until_offset == other.from_offset for one, other in itertools.pairwise(ranges))


def test_a_piece_that_is_too_large_is_a_portion_of_its_own() -> None:
    planned = [OffsetRange("t", 0, 7, 9), OffsetRange("t", 1, 0, 9)]
    portions = pack(planned, [(0, 8, 5), (0, 9, 99), (1, 3, 5), (1, 4, 5)], 10)
    assert portions == [[OffsetRange("t", 0, 7, 8)], [OffsetRange("t", 0, 8, 9)], [OffsetRange("t", 1, 0, 4)]]


def batches(*sizes: int) -> Iterator[pa.RecordBatch]:
    """Kafka records of partition 3, each batch of one bad value of this size and one of a byte."""
    for number, size in enumerate(sizes):
        values = [json.dumps("x" * size).encode(), b"1"]
        columns = [[None] * 2, values, [3] * 2, [2 * number, 2 * number + 1], [0] * 2]
        yield pa.record_batch(
            [pa.array(column, field.type) for column, field in zip(columns, KAFKA, strict=True)], KAFKA
        )


@pytest.mark.parametrize(("share", "brought"), [(None, 3), (10**9, 3), (100_000, 1), (10, 0)])
def test_what_is_beyond_the_share_comes_as_its_weight_alone(share: int | None, brought: int) -> None:
    shares = None if share is None else {3: share}
    parse = build_parser(TOPIC, ARRIVAL, 10**9, EventRules(), shares)
    messages = pa.Table.from_batches(parse(batches(10, 1_000_000, 10)))
    assert messages["message"].is_valid().to_pylist() == [True] * brought + [False] * (3 - brought)
    assert messages["until_offset"].to_pylist() == [2, 4, 6]
    weights = messages["weight"].to_pylist()
    assert weights[1] >= 250_000 > max(weights[0], weights[2])
    offsets = read_messages(TOPIC, messages.slice(0, brought))["kafka_offset"].to_pylist()
    assert offsets == list(range(2 * brought))
