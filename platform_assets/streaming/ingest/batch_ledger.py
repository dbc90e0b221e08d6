"""What one micro-batch did with every offset it read: the entry that rides in its commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.frontier import Frontier

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

VERDICTS = ("accepted", "quarantined", "deduplicated", "erased")
"""What becomes of a record: one of these, as fields of `PartitionEntry`."""


@dataclass(frozen=True)
class PartitionEntry:
    """One topic partition's part of a batch: rows_in = accepted + quarantined + deduplicated + erased, always.

    `gaps` are the ranges [from, until) of the read range in which Kafka delivered no record: transaction markers,
    aborted or compacted records. They are proved empty by a second read (the ledger check), which says what they were.
    """

    range: OffsetRange
    accepted: int
    quarantined: int
    deduplicated: int
    erased: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def rows_in(self) -> int:
        """Records that Kafka delivered."""
        return self.accepted + self.quarantined + self.deduplicated + self.erased

    def as_json(self) -> dict[str, Any]:
        """The entry as it is stored in commits and in `platform.ledger`."""
        return {
            "topic": self.range.topic,
            "kafka_partition": self.range.kafka_partition,
            "from_offset": self.range.from_offset,
            "until_offset": self.range.until_offset,
            "rows_in": self.rows_in,
            "accepted": self.accepted,
            "quarantined": self.quarantined,
            "deduplicated": self.deduplicated,
            "erased": self.erased,
            "gaps": [list(gap) for gap in self.gaps],
        }


@dataclass(frozen=True)
class Verdicts:
    """What became of a batch's records: of the three at most one, else it was accepted. Parallel arrays."""

    partitions: Int64s
    offsets: Int64s
    is_rejected: Any
    is_duplicate: Any
    is_erased: Any

    def one_an_offset(self) -> Verdicts:
        """The verdicts of Kafka records that hold lists.

        One is accepted if one of its list is, else a repetition if one is, else rejected or erased.
        """
        ranks = np.full(len(self.offsets), 3)
        for rank, mask in enumerate((self.is_erased, self.is_rejected, self.is_duplicate)):
            ranks[mask] = rank
        # The best of each offset comes first.
        order = np.lexsort((-ranks, self.offsets, self.partitions))
        partitions, offsets = self.partitions[order], self.offsets[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (partitions[1:] != partitions[:-1]) | (offsets[1:] != offsets[:-1])
        best = ranks[order][is_first]
        return Verdicts(partitions[is_first], offsets[is_first], best == 1, best == 2, best == 0)


def build_entries(planned: PlannedBatch, found: Verdicts) -> list[PartitionEntry]:
    """Counts a batch's Kafka records by topic partition and verdict."""
    partitions, offsets = found.partitions, found.offsets
    is_rejected, is_duplicate, is_erased = found.is_rejected, found.is_duplicate, found.is_erased
    entries = []
    for planned_range in planned.ranges:
        own = partitions == planned_range.kafka_partition
        entries.append(
            PartitionEntry(
                planned_range,
                accepted=int((own & ~is_rejected & ~is_duplicate & ~is_erased).sum()),
                quarantined=int((own & is_rejected).sum()),
                deduplicated=int((own & is_duplicate).sum()),
                erased=int((own & is_erased).sum()),
                gaps=find_gaps(planned_range, np.sort(offsets[own])),
            )
        )
    return entries


def find_gaps(planned_range: OffsetRange, offsets: Int64s) -> tuple[tuple[int, int], ...]:
    """The ranges of offsets without a record, given the sorted offsets of the records."""
    if len(offsets) == planned_range.length:
        return ()
    edges = np.concatenate(([planned_range.from_offset - 1], offsets, [planned_range.until_offset]))
    starts = np.flatnonzero(np.diff(edges) > 1)
    return tuple((int(edges[start]) + 1, int(edges[start + 1])) for start in starts)


def build_batch_commit(
    query: str,
    txn_app_id: str,
    planned: PlannedBatch,
    topic_id: str = "",
    entries: list[PartitionEntry] | None = None,
    frontier: Frontier | None = None,
    rows_by_type: Mapping[str, int] | None = None,
    is_compacted: bool | None = None,
    notes: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """The commit of one batch over Kafka: its ranges and, in the main table, its account and the frontier after it.

    `rows_by_type`: accepted rows by event type, for the account of those that read them. `topic_id` tells the topic
    from another one of its name; empty where it is not known. `is_compacted`: whether the topic was when the batch
    found gaps; None where nobody can say, or there are none. `notes` are further facts.
    """
    return CommitInfo.of_batch(
        query, txn_app_id, planned.batch_id,
        ranges=[[r.topic, r.kafka_partition, r.from_offset, r.until_offset] for r in planned.ranges],
        arrival_micros=planned.arrival_micros,
        topic_id=topic_id,
        partitions=None if entries is None else [entry.as_json() for entry in entries],
        frontier=None if frontier is None else frontier.as_json(),
        rows_by_type=rows_by_type,
        is_compacted=is_compacted,
        notes=notes or {},
    )  # fmt: skip
