"""What Kafka no longer holds although a stream has not read it: found at a start, listed once a person has agreed.

Records age out before they are read, or a topic is deleted and created again. Nothing is skipped silently: the stream
stops with the ranges, a person acknowledges them (`headrace acknowledge-loss`), `platform.lost_ranges` keeps them for
ever, and the stream goes on behind them with a new checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.tables.platform import LOST_RANGES

if TYPE_CHECKING:
    from platform_assets.streaming.batch_table import BatchTable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LostRange:
    """Offsets [from_offset, until_offset) of a topic partition that were not read; reading can go on at `next_offset`.

    `until_offset` None: all that an older topic of the same name still had.
    """

    topic: str
    kafka_partition: int
    from_offset: int
    until_offset: int | None
    next_offset: int

    def __str__(self) -> str:
        where = f"{self.topic}/{self.kafka_partition}"
        if self.until_offset is None:
            return f"{where} from offset {self.from_offset} on (the topic was created again)"
        return (
            f"{where} offsets {self.from_offset} to {self.until_offset - 1} ({self.until_offset - self.from_offset:,})"
        )


@dataclass(frozen=True)
class HeldTopic:
    """What Kafka holds of a topic now: its id, and by partition the first offset and that of the next record."""

    topic_id: str
    offsets: Mapping[int, tuple[int, int]]


def find_lost_ranges(
    topic: str, next_offsets: Mapping[int, int], read_topic_id: str | None, held: HeldTopic
) -> list[LostRange]:
    """What was to be read next and is gone. `read_topic_id` is the id of the topic that was read, None if not known.

    A topic was created again when its id says so, or when it ends before what was read of it.
    """
    is_new = bool(read_topic_id) and read_topic_id != held.topic_id
    is_new = is_new or any(offset > held.offsets.get(p, (0, 0))[1] for p, offset in next_offsets.items())
    found = []
    for partition, offset in sorted(next_offsets.items()):
        first, _ = held.offsets.get(partition, (0, 0))
        if is_new:
            found.append(LostRange(topic, partition, offset, None, first))
        elif offset < first:
            found.append(LostRange(topic, partition, offset, first, first))
    return found


def describe(lost: Sequence[LostRange]) -> str:
    """For an error: what is gone, and the way on."""
    return (
        f"Kafka no longer holds {'; '.join(map(str, lost))}, not read yet. If it can't be restored: "
        f"headrace acknowledge-loss --reason '...' records the hole in {LOST_RANGES.name} and lets the stream go on."
    )


def read_acknowledged_offsets(table: BatchTable, last_batch: Mapping[str, Any] | None, topic: str) -> dict[int, int]:
    """Where reading goes on by what was acknowledged after the last committed batch, by partition; empty: nothing was.

    `table` is `platform.lost_ranges`, `last_batch` what the batch's commit says of itself.
    """
    after = EPOCH + timedelta(microseconds=(last_batch or {}).get("arrival_micros", 0))
    rows = [row for row in table.read_arrow().to_pylist() if row["topic"] == topic and row["acknowledged_at"] > after]
    rows.sort(key=lambda row: row["acknowledged_at"])
    return {row["kafka_partition"]: row["next_offset"] for row in rows}


def build_rows(lost: Sequence[LostRange], by: str, reason: str, at: datetime) -> list[dict[str, Any]]:
    """Rows of `LOST_RANGES`."""
    return [{**vars(item), "acknowledged_by": by, "reason": reason, "acknowledged_at": at} for item in lost]
