"""Offsets without a record are told apart as far as Kafka lets anybody."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from platform_assets.checks import ledger_gaps
from platform_assets.checks.ledger_entries import Entry, StoredGaps, entries_of_ledger
from platform_assets.checks.ledger_gaps import (
    OF_TRANSACTIONS,
    PERHAPS_COMPACTED,
    count_gaps,
    describe_gaps,
    read_gaps,
)
from resources.kafka import KafkaResource

ENTRY = Entry("app", 0, "t", 0, 0, 20, 13, 13, 0, 0, gaps=((2, 4), (10, 15)))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, int]]:
    """Counts gaps, where the records of aborted transactions have these offsets."""

    def count(entries: Sequence[Entry], held: Sequence[Entry], *aborted: int) -> dict[str, int]:
        def find(
            _kafka: object, _topic: str, ranges: Sequence[tuple[int, int, int]], *, committed: bool
        ) -> list[tuple[int, int]]:
            assert not committed
            return [(p, o) for p, low, high in ranges for o in aborted if low <= o < high]

        monkeypatch.setattr(ledger_gaps, "find_records", find)
        return count_gaps(entries, held, KafkaResource())

    return count


@pytest.mark.parametrize(
    ("is_compacted", "aborted", "counts"),
    [(False, (2,), (7, 0)), (None, (2,), (0, 0)), (True, (), (0, 7)), (True, (2, 5, 11), (2, 5))],
)
def test_only_a_compacted_topic_leaves_it_open_what_a_gap_was(
    is_compacted: bool | None,
    aborted: tuple[int, ...],
    counts: tuple[int, int],
    count: Callable[..., dict[str, int]],
) -> None:
    entries = [replace(ENTRY, is_compacted=is_compacted)]
    assert count(entries, entries, *aborted) == dict(zip((OF_TRANSACTIONS, PERHAPS_COMPACTED), counts, strict=True))


def test_of_an_older_topic_nothing_is_asked(count: Callable[..., dict[str, int]]) -> None:
    entries = [replace(ENTRY, is_compacted=True)]
    assert count(entries, [], 2)[PERHAPS_COMPACTED] == 7


def test_what_is_not_certain_is_said_as_a_bound() -> None:
    assert describe_gaps({OF_TRANSACTIONS: 0, PERHAPS_COMPACTED: 0}) == ""
    assert "at most" in describe_gaps({OF_TRANSACTIONS: 0, PERHAPS_COMPACTED: 5})
    assert "at most" not in describe_gaps({OF_TRANSACTIONS: 5, PERHAPS_COMPACTED: 0})


def test_gaps_are_read_in_portions_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [replace(ENTRY, kafka_partition=partition) for partition in range(5)] + [replace(ENTRY, topic="other")]
    whole = [place for ranges in read_gaps(entries, "t") for place in ranges]
    assert whole == [(partition, start, end) for partition in range(5) for start, end in ENTRY.gaps]
    monkeypatch.setattr("platform_assets.checks.ledger_gaps._GAPS_AT_A_TIME", 3)
    portions = list(read_gaps(entries, "t"))
    assert [len(ranges) for ranges in portions] == [4, 4, 2]
    assert [place for ranges in portions for place in ranges] == whole
    assert list(read_gaps(entries, "nobody's")) == []


def test_many_gaps_stay_the_text_that_they_are() -> None:
    gaps = [[2 * n, 2 * n + 1] for n in range(2_000)]
    row = {
        "txn_app_id": "app", "batch_id": 0, "topic": "t", "kafka_partition": 0, "from_offset": 0,
        "until_offset": 4_000, "rows_in": 2_000, "accepted": 2_000, "quarantined": 0, "deduplicated": 0,
        "gaps": json.dumps(gaps), "arrived_at": datetime(2026, 3, 1, tzinfo=UTC),
    }  # fmt: skip
    entry, again = entries_of_ledger([row, row])
    assert isinstance(entry.gaps, StoredGaps)
    assert entry == again and entry.gaps == tuple(map(tuple, gaps))
    assert entry.gaps != tuple(map(tuple, gaps[1:]))
