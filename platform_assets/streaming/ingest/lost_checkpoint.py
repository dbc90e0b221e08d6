"""What a query does if its checkpoint is gone and its table has commits: resume where these end, or refuse.

A query without a checkpoint starts over, and would write everything a second time under a new transaction name. The
commits of a stream over Kafka say which offsets they hold, so it goes on after them. A stream over a table has lost
its state, and what it would write again is in its table: it is refused with the way to compute the table again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.checkpoint.checkpoint import TopicOffsets
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.ingest.lost_ranges import find_acknowledged_offsets
from platform_assets.streaming.moments import at_micros

if TYPE_CHECKING:
    from platform_assets.streaming.delta.reader import DeltaReader
    from platform_assets.streaming.delta.writer import DeltaWriter

# Kafka's word for "from the first record that there is", as Spark takes it in place of an offset.
EARLIEST = -2


def find_recorded_offsets(
    main: DeltaReader, side: Mapping[str, DeltaWriter], lost: DeltaReader, topic: str, partitions: Sequence[int]
) -> TopicOffsets | None:
    """The offsets after the last committed batch, for all `partitions`; None when the table has no commit of a batch.

    Behind what was acknowledged as lost since (`lost` is `platform.lost_ranges`), where something was.

    What a batch that did not come to its last commit has left in the side tables (by their column of the time of
    arrival) is taken out: it is read again. Rows that arrived before belong to an older topic of the name, or to what
    a partition had before Kafka lost its end: they stay. Raises
    `CheckpointMismatchError` when the table has rows, but its log no longer says which offsets they are, or when they
    are another topic's.
    """
    last = main.read_last_batch()
    if last is None:
        if main.is_empty():
            return None
        raise CheckpointMismatchError(
            f"The checkpoint of {main.uri} is gone, and the table's log no longer holds the commits that say which "
            "offsets it has. Restore the checkpoint: a new one would write every row again."
        )
    until = {partition: offset for name, partition, _, offset in last.ranges or [] if name == topic}
    if not until:
        raise CheckpointMismatchError(
            f"The checkpoint of {main.uri} is gone, and the table holds offsets of another topic than {topic}. "
            "Set HEADRACE_TOPIC to that topic, or HEADRACE_LAKEHOUSE to a new folder."
        )
    assert last.arrival_micros is not None  # each batch over Kafka has it
    done = at_micros(last.arrival_micros).isoformat()
    for arrival, table in side.items():
        for partition, offset in until.items():
            unfinished = f"topic = '{topic}' and kafka_partition = {partition} and kafka_offset >= {offset}"
            # Compared as text: delta-rs cannot compare with a timestamp literal here (findings/).
            table.delete(f"{unfinished} and {arrival} > '{done}'", CommitInfo(CommitKind.UNFINISHED_BATCH))
    start = until | find_acknowledged_offsets(lost.read_arrow().to_pylist(), last, topic)
    return {topic: {partition: start.get(partition, EARLIEST) for partition in partitions}}


def require_checkpoint(query: str, table: DeltaReader) -> None:
    """Raises `CheckpointMismatchError` when a stream over a table has no checkpoint, but its table has rows."""
    if not table.is_empty():
        raise CheckpointMismatchError(
            f"The checkpoint of query {query} is gone, but {table.uri} has its rows. Restore the checkpoint, or have "
            f"the table computed again from all events: headrace recompute {query}"
        )
