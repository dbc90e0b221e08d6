"""Offsets without a record are told apart as far as Kafka lets anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from platform_assets.checks.ledger_entries import Entry
from platform_assets.checks.ledger_gaps import OF_TRANSACTIONS, PERHAPS_COMPACTED, count_gaps, describe_gaps

ENTRY = Entry("app", 0, "t", 0, 0, 20, 13, 13, 0, 0, gaps=((2, 4), (10, 15)))


class Aborted:
    """Says where the records of aborted transactions are."""

    def __init__(self, *offsets: int) -> None:
        self.offsets = offsets

    def find_records(
        self, topic: str, ranges: Sequence[tuple[int, int, int]], *, committed: bool = True
    ) -> list[tuple[int, int]]:
        assert not committed
        return [(p, o) for p, low, high in ranges for o in self.offsets if low <= o < high]


@pytest.mark.parametrize(
    ("is_compacted", "aborted", "counts"),
    [(False, (2,), (7, 0)), (None, (2,), (0, 0)), (True, (), (0, 7)), (True, (2, 5, 11), (2, 5))],
)
def test_only_a_compacted_topic_leaves_it_open_what_a_gap_was(
    is_compacted: bool | None, aborted: tuple[int, ...], counts: tuple[int, int]
) -> None:
    entries = [replace(ENTRY, is_compacted=is_compacted)]
    assert count_gaps(entries, entries, Aborted(*aborted)) == dict(
        zip((OF_TRANSACTIONS, PERHAPS_COMPACTED), counts, strict=True)
    )


def test_of_an_older_topic_nothing_is_asked() -> None:
    entries = [replace(ENTRY, is_compacted=True)]
    assert count_gaps(entries, [], Aborted(2))[PERHAPS_COMPACTED] == 7


def test_what_is_not_certain_is_said_as_a_bound() -> None:
    assert describe_gaps({OF_TRANSACTIONS: 0, PERHAPS_COMPACTED: 0}) == ""
    assert "at most" in describe_gaps({OF_TRANSACTIONS: 0, PERHAPS_COMPACTED: 5})
    assert "at most" not in describe_gaps({OF_TRANSACTIONS: 5, PERHAPS_COMPACTED: 0})
