"""How far a stream has read its topic, by the commits of its table, and what of that Kafka no longer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.streaming.delta.commit_info import CommitInfo

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.streaming.ingest.lost_ranges import LostRange

# The newest commit that names offsets is searched in so many; marks and upkeep never make as many in a row.
_COMMITS_SEARCHED = 100


class TopicLog(Protocol):
    """What is asked of Kafka (`resources.kafka.KafkaResource`)."""

    def topic_id(self, topic: str) -> str:
        """The id that the cluster gave the topic at its creation."""
        ...

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """The first offset still held, by partition."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record gets, by partition."""
        ...


@dataclass(frozen=True)
class ReadPosition:
    """The next offset to read, by partition; empty before the first batch. `topic_id` None: not known, or given up."""

    next_offsets: Mapping[int, int]
    topic_id: str | None = None

    def find_lost(self, topic: str, kafka: TopicLog) -> list[LostRange]:
        """What was to be read next and is gone, or belongs to another topic of the name. A start would be refused."""
        from platform_assets.streaming.ingest.lost_ranges import find_lost_ranges
        from platform_assets.streaming.topic_snapshot import TopicSnapshot

        first, ends = kafka.beginning_offsets(topic), kafka.end_offsets(topic)
        held = TopicSnapshot(kafka.topic_id(topic), {p: (first[p], end) for p, end in ends.items()})
        return find_lost_ranges(topic, self.next_offsets, self.topic_id, held)


def read_position(lakehouse: Any, table: DeltaTable | None, topic: str) -> ReadPosition:
    """Reads it from the newest batch in the stream's table, and from what was acknowledged as lost since."""
    if table is None:
        return ReadPosition({})
    from platform_assets.streaming.ingest.lost_ranges import find_acknowledged_offsets

    batch = _find_newest_batch(table)
    losses = lakehouse.find_table("platform.lost_ranges")
    rows = [] if losses is None else losses.to_pyarrow_table().to_pylist()
    acknowledged = find_acknowledged_offsets(rows, batch, topic)
    read = {partition: until for name, partition, _start, until in _ranges_of(batch) if name == topic}
    # What was acknowledged is of the topic that is there now.
    topic_id = None if acknowledged or batch is None else batch.topic_id or None
    return ReadPosition({**read, **acknowledged}, topic_id)


def read_committed_offsets(table: DeltaTable) -> dict[int, int]:
    """The next offset to read of each topic partition: each commit of the stream names them all, the newest counts."""
    return {partition: until for _topic, partition, _start, until in _ranges_of(_find_newest_batch(table))}


def _find_newest_batch(table: DeltaTable) -> CommitInfo | None:
    for commit in table.history(_COMMITS_SEARCHED):
        found = CommitInfo.parse(commit.get("userMetadata"))
        if found is not None and found.ranges is not None:
            return found
    return None


def _ranges_of(batch: CommitInfo | None) -> Sequence[Sequence[Any]]:
    return [] if batch is None else batch.ranges or []
