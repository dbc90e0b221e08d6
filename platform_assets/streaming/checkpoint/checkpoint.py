"""What a query's checkpoint says: its generation, and each micro-batch's offsets and time.

Layout as Spark 4.2 writes it: `metadata` holds the query's id, made once a checkpoint; `offsets/<batch>` is created
once before a batch runs (so a replay sees the same ranges and the same time); `commits/<batch>` after it;
`sources/0/0` holds the first offsets of the source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.errors import CheckpointMismatchError
from platform_assets.folders import Folder

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

STATE_PARTS = "spark.sql.shuffle.partitions"
"""Spark's name of how many parts a query's state has, which are tasks of its batches."""

TopicOffsets = dict[str, dict[int, int]]  # topic -> kafka_partition -> offset


@dataclass(frozen=True)
class OffsetRange:
    """Offsets [from_offset, until_offset) of one topic partition."""

    topic: str
    kafka_partition: int
    from_offset: int
    until_offset: int

    @property
    def length(self) -> int:
        """How many offsets the range has; records may be fewer (transaction markers, aborted records)."""
        return self.until_offset - self.from_offset


@dataclass(frozen=True)
class PlannedBatch:
    """What Spark decided about a micro-batch over Kafka before it ran. The same on every replay."""

    batch_id: int
    arrival_micros: int
    ranges: tuple[OffsetRange, ...]


@dataclass(frozen=True)
class Plan:
    """What Spark recorded about a batch before it ran: one file of `offsets/`, the same on every replay.

    `source` says up to where it reads: Kafka's offsets, or for a stream over a table a `commit_source` offset. The
    watermark closes windows in this batch, and refuses rows in the next; 0 for none.
    """

    time_micros: int
    watermark_micros: int
    source: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of one query, as files: neither Spark nor a JVM is needed. A value; each method reads anew.

    From any thread. Methods raise `OSError` when the place cannot be read.
    """

    folder: Folder

    @classmethod
    def of(cls, context: StreamContext, table: str) -> Checkpoint:
        """The checkpoint of the query that writes the table `<layer>.<table>`."""
        return cls(Folder(context.checkpoint_uri(table), context.storage_options))

    @property
    def uri(self) -> str:
        """The checkpoint's location."""
        return self.folder.uri

    def read_generation(self) -> str | None:
        """Spark's id of the query, which each new checkpoint gives it anew; None before the first start."""
        text = self.read_text("metadata")
        return None if text is None else str(json.loads(text)["id"])

    def read_txn_app_id(self, query: str) -> str:
        """The name of the query's Delta transactions. A new checkpoint begins at batch 0 again, under a new name."""
        return f"headrace/{query}/{self.read_generation()}"

    def list_planned_batches(self) -> list[int]:
        """The batches whose plans the checkpoint holds, oldest first: about the last hundred."""
        return self._list_batches("offsets")

    def read_last_committed_batch(self) -> int | None:
        """The newest batch that is done, and never runs again; None before the first."""
        batches = self._list_batches("commits")
        return batches[-1] if batches else None

    def read_plan(self, batch_id: int) -> Plan:
        """A batch's plan. Raises `CheckpointMismatchError` when the checkpoint's log does not hold it."""
        text = self.read_text(f"offsets/{batch_id}")
        if text is None:
            raise CheckpointMismatchError(
                f"The checkpoint {self.uri} has no offsets of batch {batch_id}. It was changed by hand or is "
                "incomplete: restore it whole, or start with a new one."
            )
        _version, metadata, source = text.splitlines()[:3]
        found = json.loads(metadata)
        return Plan(int(found["batchTimestampMs"]) * 1000, int(found["batchWatermarkMs"]) * 1000, json.loads(source))

    def read_state_parts(self) -> int | None:
        """How many parts the query's state has, which Spark froze at the first start; None before the first batch."""
        planned = self.list_planned_batches()
        if not planned or (text := self.read_text(f"offsets/{planned[-1]}")) is None:
            return None
        conf: dict[str, str] = json.loads(text.splitlines()[1]).get("conf", {})
        return int(conf[STATE_PARTS]) if STATE_PARTS in conf else None

    def read_last_plan(self) -> tuple[int, Plan] | None:
        """The newest batch that is done, and its plan; None before the first. Raises as `read_plan`."""
        done = self.read_last_committed_batch()
        return None if done is None else (done, self.read_plan(done))

    def read_planned_batch(self, batch_id: int) -> PlannedBatch:
        """The planned ranges and time of a batch over Kafka.

        Raises `CheckpointMismatchError` when the checkpoint's log does not hold the batch or its predecessor.
        """
        plan = self.read_plan(batch_id)
        start = self._read_start(batch_id)
        ranges = [
            # A partition that the previous batch did not know is new: Spark reads it from its first offset.
            OffsetRange(topic, partition, start.get(topic, {}).get(partition, 0), offset)
            for topic, partitions in sorted(_topic_offsets(plan.source).items())
            for partition, offset in sorted(partitions.items())
        ]
        return PlannedBatch(batch_id, plan.time_micros, tuple(ranges))

    def find_unfinished_batch(self) -> PlannedBatch | None:
        """The batch over Kafka that is planned and not done: the next start runs it again. None: there is none."""
        planned = self.list_planned_batches()
        if not planned or planned[-1] in self._list_batches("commits"):
            return None
        return self.read_planned_batch(planned[-1])

    def forget_plan(self, batch_id: int) -> None:
        """Takes the plan of an unfinished batch back: the next start plans it anew. No table may have rows of it."""
        self._remove_checksum(f"offsets/{batch_id}")
        self.folder.remove(f"offsets/{batch_id}")

    def read_next_offsets(self) -> TopicOffsets | None:
        """The Kafka offsets at which the first batch of the next start begins; None if none has been planned."""
        planned = self.list_planned_batches()
        if not planned:
            return None
        newest = planned[-1]
        is_done = newest in self._list_batches("commits")
        return _topic_offsets(self.read_plan(newest).source) if is_done else self._read_start(newest)

    def read_text(self, path: str) -> str | None:
        """A file's text (UTF-8); None where there is no such file."""
        content = self.folder.read_file(path)
        return None if content is None else content.decode()

    def write_text(self, path: str, text: str) -> None:
        """Writes a file of ours next to Spark's; a reader finds the old text or the new one."""
        self._remove_checksum(path)
        self.folder.write_file(path, text.encode())

    def _read_start(self, batch_id: int) -> TopicOffsets:
        """The offsets at which a batch over Kafka begins: the end of the one before it, or the first offsets."""
        if batch_id > 0:
            return _topic_offsets(self.read_plan(batch_id - 1).source)
        text = self.read_text("sources/0/0")
        if text is None:
            raise CheckpointMismatchError(f"The checkpoint {self.uri} has no first offsets (sources/0/0).")
        # Spark puts a zero byte and a version line before the JSON.
        return _topic_offsets(json.loads(text[text.index("{") :]))

    def _list_batches(self, log: str) -> list[int]:
        """The file names in one of the logs that are whole numbers, ascending."""
        names = (path.rpartition("/")[2] for path in self.folder.list_files(log))
        return sorted(int(name) for name in names if name.isdigit())

    def _remove_checksum(self, path: str) -> None:
        """Removes the checksum that Hadoop keeps next to each local file: with it, Hadoop refuses other content."""
        folder, _, name = path.rpartition("/")
        self.folder.remove(f"{folder}/.{name}.crc" if folder else f".{name}.crc")


def _topic_offsets(source: dict[str, Any]) -> TopicOffsets:
    return {
        topic: {int(partition): int(offset) for partition, offset in partitions.items()}
        for topic, partitions in source.items()
    }
