"""What the offsets without a record were: of transactions, or perhaps records that compaction removed unread.

Kafka's clients are shown neither a transaction's marker nor what compaction has removed: both are offsets that nobody
is given. What can be known: a topic that is not compacted has no such offsets but those of transactions; and a record
of an aborted transaction is there for a reader of uncommitted ones, until it is compacted as well. For a compacted
topic the rest is an upper bound of the records that were removed before they were read: the markers are among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from platform_assets.checks.ledger_entries import Entry
from resources.kafka_records import find_records

if TYPE_CHECKING:
    from resources.kafka import KafkaResource

# Each is a hundred bytes here; each portion asks Kafka once where its log begins.
_GAPS_AT_A_TIME = 500_000
OF_TRANSACTIONS = "offsets_of_transactions"
PERHAPS_COMPACTED = "offsets_perhaps_compacted"


def read_gaps(entries: Sequence[Entry], topic: str) -> Iterator[list[tuple[int, int, int]]]:
    """The gaps of the topic's accounts, as `find_records` takes them, in portions; none where there are none."""
    ranges: list[tuple[int, int, int]] = []
    for entry in entries:
        if entry.topic == topic:
            ranges += [(entry.kafka_partition, start, end) for start, end in entry.gaps]
        if len(ranges) >= _GAPS_AT_A_TIME:
            yield ranges
            ranges = []
    if ranges:
        yield ranges


def count_gaps(entries: Sequence[Entry], held: Sequence[Entry], kafka: KafkaResource) -> dict[str, int]:
    """The offsets without a record in the accounts by what they were; in neither number where nobody can say.

    `held` are those of the accounts that are of the topic that Kafka has now.
    """
    lengths = {True: 0, False: 0}
    for entry in entries:
        if entry.is_compacted is not None:
            lengths[entry.is_compacted] += sum(end - start for start, end in entry.gaps)
    aborted = 0
    compacted = [entry for entry in held if entry.is_compacted]
    for topic in sorted({entry.topic for entry in compacted}):
        for ranges in read_gaps(compacted, topic):
            aborted += len(find_records(kafka, topic, ranges, committed=False))
    return {OF_TRANSACTIONS: lengths[False] + aborted, PERHAPS_COMPACTED: lengths[True] - aborted}


def describe_gaps(totals: Mapping[str, int]) -> str:
    """The verdict's sentences about gaps, with a blank before each; empty where there is nothing to say."""
    said = ""
    if of_transactions := totals[OF_TRANSACTIONS]:
        said += f" {of_transactions:,} offsets have no record: markers of transactions, and records of aborted ones."
    if perhaps := totals[PERHAPS_COMPACTED]:
        said += (
            f" {perhaps:,} offsets have no record because the topic is compacted, or are markers of transactions: "
            "at most that many records were removed before they were read. Set the topic's cleanup.policy to delete."
        )
    return said
