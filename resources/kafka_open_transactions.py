"""What waits behind open transactions: committed reads of a partition end where the first of them begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from resources.kafka_records import read_times

if TYPE_CHECKING:
    from resources.kafka import KafkaResource


@dataclass(frozen=True)
class HeldBack:
    """Offsets of a partition from an open transaction on, and the time of the first record there."""

    count: int
    since: datetime


def read_ends(kafka: KafkaResource, topic: str) -> dict[int, tuple[int, int]]:
    """The last stable offset of each partition, up to which committed reads go, and the next record's offset.

    The two are the same unless records wait behind an open transaction.
    """
    ends = kafka.end_offsets(topic)  # first: what comes between the two calls waits for nothing
    visible = kafka.end_offsets(topic, committed=True)
    return {p: (min(visible.get(p, end), end), end) for p, end in ends.items()}


def read_held_back(kafka: KafkaResource, topic: str) -> dict[int, HeldBack]:
    """The records behind an open transaction, by partition: nobody who reads what is committed can see them."""
    waiting = {p: (first, end) for p, (first, end) in read_ends(kafka, topic).items() if first < end}
    times = read_times(kafka, topic, {p: first for p, (first, _) in waiting.items()})
    return {p: HeldBack(end - first, times[p]) for p, (first, end) in waiting.items() if p in times}
