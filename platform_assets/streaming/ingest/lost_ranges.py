"""What Kafka no longer holds of a topic: found at a start, listed once a person has agreed.

Records age out before they are read; a topic is deleted and created again, or is another cluster's; a broker loses the
end of a partition that it had acknowledged (Kafka does not wait for the disk). Nothing is skipped silently, and nothing
read again unasked: the stream stops and says what it has found, a person acknowledges it (`headrace acknowledge-loss`),
`platform.lost_ranges` keeps it for ever, and the stream goes on after it with a new checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.moments import at_micros
from platform_assets.tables.platform import LOST_RANGES

if TYPE_CHECKING:
    from platform_assets.streaming.delta.commit_info import CommitInfo
    from platform_assets.streaming.topic_snapshot import TopicSnapshot


@dataclass(frozen=True)
class LostRange:
    """Offsets [from_offset, until_offset) of a topic partition that were not read; reading can go on at `next_offset`.

    `until_offset` None: from here on Kafka's log is another one than was read. Either the topic is another one, or
    (`is_cut`) the partition ends before what was read of it: new records get offsets that were read already.
    """

    topic: str
    kafka_partition: int
    from_offset: int
    until_offset: int | None
    next_offset: int
    is_cut: bool = False

    @property
    def is_of_another_topic(self) -> bool:
        """Whether a person must say from where to go on: nothing tells which of its records were read elsewhere."""
        return self.until_offset is None and not self.is_cut

    def __str__(self) -> str:
        where = f"{self.topic}/{self.kafka_partition}"
        if self.is_cut:
            return (
                f"{where} offsets {self.next_offset} to {self.from_offset - 1}, which were read (Kafka has lost the "
                "end of the partition)"
            )
        if self.until_offset is None:
            return f"{where} from offset {self.from_offset} on (the topic was created again, or is another cluster's)"
        return (
            f"{where} offsets {self.from_offset} to {self.until_offset - 1} ({self.until_offset - self.from_offset:,})"
        )


def find_lost_ranges(
    topic: str, next_offsets: Mapping[int, int], read_topic_id: str | None, held: TopicSnapshot
) -> list[LostRange]:
    """What was to be read next and is gone. `read_topic_id` is the id of the topic that was read, None if not known.

    A topic is another one when its id says so, or, where no id is known, when a partition ends before what was read.
    Under the same id only that partition has lost its end. Partitions that were added, and whose first records are gone
    already, have lost these. `next_offsets` is empty before anything was read: then nothing is lost.
    """
    cut = {p for p, offset in next_offsets.items() if offset > held.offsets.get(p, (0, 0))[1]}
    is_new = read_topic_id != held.topic_id if read_topic_id else bool(cut)
    found = []
    for partition, offset in sorted(next_offsets.items()):
        first, end = held.offsets.get(partition, (0, 0))
        if is_new:
            found.append(LostRange(topic, partition, offset, None, first))
        elif partition in cut:
            found.append(LostRange(topic, partition, offset, None, end, is_cut=True))
        elif offset < first:
            found.append(LostRange(topic, partition, offset, first, first))
    if next_offsets and not is_new:
        added = {p: first for p, (first, _) in sorted(held.offsets.items()) if p not in next_offsets}
        found += [LostRange(topic, partition, 0, first, first) for partition, first in added.items() if first]
    return found


def describe(lost: Sequence[LostRange]) -> str:
    """Describes for an error what is gone, and what to do."""
    start = " --from ..." if any(item.is_of_another_topic for item in lost) else ""
    return (
        f"Kafka no longer holds {'; '.join(map(str, lost))}. If it can't be restored: headrace acknowledge-loss "
        f"--reason '...'{start} records this in {LOST_RANGES.name} and lets the stream go on."
    )


def find_acknowledged_offsets(
    losses: Iterable[Mapping[str, Any]], last_batch: CommitInfo | None, topic: str
) -> dict[int, int]:
    """The offsets acknowledged after the last committed batch, at which reading goes on, by partition; may be empty.

    `losses` are the rows of `platform.lost_ranges`, `last_batch` is what the batch's commit says of itself.
    """
    arrived = 0 if last_batch is None else last_batch.arrival_micros or 0
    after = at_micros(arrived)
    rows = [row for row in losses if row["topic"] == topic and row["acknowledged_at"] > after]
    rows.sort(key=lambda row: row["acknowledged_at"])
    return {row["kafka_partition"]: row["next_offset"] for row in rows}


def build_rows(lost: Sequence[LostRange], by: str, reason: str, at: datetime) -> list[dict[str, Any]]:
    """Rows of `LOST_RANGES`."""
    names = ("topic", "kafka_partition", "from_offset", "until_offset", "next_offset")
    return [
        {name: getattr(item, name) for name in names} | {"acknowledged_by": by, "reason": reason, "acknowledged_at": at}
        for item in lost
    ]
