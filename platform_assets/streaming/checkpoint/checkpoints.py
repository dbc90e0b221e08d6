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
from platform_assets.streaming.checkpoint.hadoop_files import list_numbers, read_text, remove

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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
    """What Spark decided about a micro-batch before it ran. The same on every replay."""

    batch_id: int
    arrival_micros: int
    ranges: tuple[OffsetRange, ...]


def read_generation(session: SparkSession, checkpoint: str) -> str | None:
    """The checkpoint's generation (Spark's query id), or None before the first start."""
    text = read_text(session, f"{checkpoint}/metadata")
    return None if text is None else str(json.loads(text)["id"])


def read_txn_app_id(session: SparkSession, query: str, checkpoint: str) -> str:
    """The name of the query's Delta transactions. A new checkpoint begins at batch 0 again, under a new name."""
    return f"headrace/{query}/{read_generation(session, checkpoint)}"


def read_planned_batch(session: SparkSession, checkpoint: str, batch_id: int) -> PlannedBatch:
    """The planned ranges and time of a batch over Kafka.

    Raises `CheckpointMismatchError` when the checkpoint's log does not hold the batch or its predecessor.
    """
    micros, until = _read_offsets(session, checkpoint, batch_id)
    if batch_id > 0:
        _, start = _read_offsets(session, checkpoint, batch_id - 1)
    else:
        start = _read_initial_offsets(session, checkpoint)
    ranges = [
        # A partition that the previous batch did not know is new: Spark reads it from its first offset.
        OffsetRange(topic, partition, start.get(topic, {}).get(partition, 0), offset)
        for topic, partitions in sorted(until.items())
        for partition, offset in sorted(partitions.items())
    ]
    return PlannedBatch(batch_id, micros, tuple(ranges))


def find_unfinished_batch(session: SparkSession, checkpoint: str) -> PlannedBatch | None:
    """The batch over Kafka that is planned and not done: the next start runs it again. None: there is none."""
    planned = list_planned_batches(session, checkpoint)
    if not planned or planned[-1] in list_numbers(session, f"{checkpoint}/commits"):
        return None
    return read_planned_batch(session, checkpoint, planned[-1])


def forget_plan(session: SparkSession, checkpoint: str, batch_id: int) -> None:
    """Takes the plan of an unfinished batch back: the next start plans it anew. No table may have rows of it."""
    remove(session, f"{checkpoint}/offsets/{batch_id}")


def read_next_offsets(session: SparkSession, checkpoint: str) -> TopicOffsets | None:
    """Where the first batch of the next start begins to read Kafka; None for a checkpoint that has planned none."""
    planned = list_planned_batches(session, checkpoint)
    if not planned:
        return None
    newest = planned[-1]
    if newest in list_numbers(session, f"{checkpoint}/commits"):
        return _read_offsets(session, checkpoint, newest)[1]
    if newest > 0:
        return _read_offsets(session, checkpoint, newest - 1)[1]
    return _read_initial_offsets(session, checkpoint)


def read_last_committed_batch(session: SparkSession, checkpoint: str) -> int | None:
    """The newest batch that is done, and never runs again; None before the first."""
    batches = list_numbers(session, f"{checkpoint}/commits")
    return batches[-1] if batches else None


def list_planned_batches(session: SparkSession, checkpoint: str) -> list[int]:
    """The batches whose plans the checkpoint holds, oldest first: about the last hundred."""
    return list_numbers(session, f"{checkpoint}/offsets")


def _read_offsets(session: SparkSession, checkpoint: str, batch_id: int) -> tuple[int, TopicOffsets]:
    plan = read_plan(session, checkpoint, batch_id)
    return plan.time_micros, _topic_offsets(plan.source)


@dataclass(frozen=True)
class Plan:
    """What Spark recorded about a batch before it ran: one file of `offsets/`, the same on every replay.

    `source` says up to where it reads: Kafka's offsets, or for a stream over a table a `commit_source` offset. The
    watermark closes windows in this batch, and refuses rows in the next; 0 for none.
    """

    time_micros: int
    watermark_micros: int
    source: dict[str, Any]


def read_plan(session: SparkSession, checkpoint: str, batch_id: int) -> Plan:
    """A batch's plan. Raises `CheckpointMismatchError` when the checkpoint's log does not hold it."""
    text = read_text(session, f"{checkpoint}/offsets/{batch_id}")
    if text is None:
        raise CheckpointMismatchError(
            f"The checkpoint {checkpoint} has no offsets of batch {batch_id}. It was changed by hand or is incomplete: "
            "restore it whole, or start with a new one."
        )
    _version, metadata, source = text.splitlines()[:3]
    found = json.loads(metadata)
    return Plan(int(found["batchTimestampMs"]) * 1000, int(found["batchWatermarkMs"]) * 1000, json.loads(source))


def read_last_plan(session: SparkSession, checkpoint: str) -> tuple[int, Plan] | None:
    """The newest batch that is done, and its plan; None before the first. Raises as `read_plan`."""
    done = read_last_committed_batch(session, checkpoint)
    return None if done is None else (done, read_plan(session, checkpoint, done))


def _read_initial_offsets(session: SparkSession, checkpoint: str) -> TopicOffsets:
    text = read_text(session, f"{checkpoint}/sources/0/0")
    if text is None:
        raise CheckpointMismatchError(f"The checkpoint {checkpoint} has no first offsets (sources/0/0).")
    # Spark puts a zero byte and a version line before the JSON.
    return _topic_offsets(json.loads(text[text.index("{") :]))


def _topic_offsets(source: dict[str, Any]) -> TopicOffsets:
    return {
        topic: {int(partition): int(offset) for partition, offset in partitions.items()}
        for topic, partitions in source.items()
    }
