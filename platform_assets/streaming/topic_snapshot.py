"""What Kafka says of a topic at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

Ends = Mapping[int, tuple[int, int]]
"""By Kafka partition the last stable offset, and the one that the next record gets."""


@dataclass(frozen=True)
class TopicSnapshot:
    """What Kafka holds of a topic: its id, and by partition the first offset and that of the next record."""

    topic_id: str
    offsets: Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Relayed:
    """How far a relay is: the sum of the next offsets of all partitions, and how many records lie behind them."""

    passed_on: int
    waiting: int


@dataclass(frozen=True)
class HeldRecords:
    """How many records wait behind open transactions, and when the oldest was sent (None if that is unknown)."""

    records: int = 0
    since: datetime | None = None


@dataclass(frozen=True)
class UnreadRecords:
    """How many readable records a query has not read, and when the oldest was sent.

    None for the latter if that is unknown, or if they have all come since the look before.
    """

    records: int
    since: datetime | None
