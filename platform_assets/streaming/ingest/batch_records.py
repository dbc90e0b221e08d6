"""The parsed records of one batch over Kafka: all in memory, or where they are large, in portions on the disk.

A batch is planned in records, and nobody knows their size before they are read. So Spark's tasks bring their records
along only as long as these fit their share of the memory, and beyond it say no more than how much there is. A batch
that does not fit is read once more, in portions that do, each of which is kept on the driver's disk: no batch is too
large for Spark's heap. A record that is larger than a portion is one of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.ingest.kafka_ranges import RECORD_COLUMNS, read_ranges
from platform_assets.streaming.ingest.record_parser import MESSAGE_DDL, Parser, build_parser, read_messages

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.topic_spec import Topic


@dataclass(frozen=True)
class Portion:
    """A number of a batch's records. `load` returns them (`parsed_schema`) in the same order each time."""

    count: int
    load: Callable[[], pa.Table]


@contextmanager
def read_batch(
    batch_df: DataFrame, planned: PlannedBatch, topic: Topic, context: StreamContext
) -> Iterator[Sequence[Portion]]:
    """The records of a batch over `topic` for the block; one portion as a rule.

    At most `context.batch_bytes` of them are in the JVM at a time, in several copies, and four times that in Python.
    """
    build = partial(build_parser, topic, planned.arrival_micros, context.max_record_bytes, context.event_rules)
    shares = share_out(planned.ranges, context.batch_bytes)
    messages = batch_df.select(*RECORD_COLUMNS).mapInArrow(build(shares), MESSAGE_DDL).toArrow()
    if not messages["message"].null_count:
        records = read_messages(topic, messages)
        del messages
        yield [Portion(len(records), lambda: records)]
        return
    pieces = zip(*(messages[name].to_pylist() for name in ("kafka_partition", "until_offset", "weight")), strict=True)
    packed = pack(planned.ranges, pieces, context.batch_bytes)
    del messages
    # Removed with the application's folder if the process is killed.
    folder = batch_df.sparkSession.sparkContext.getConf().get("spark.local.dir", "").partition(",")[0]
    with tempfile.TemporaryDirectory(dir=folder or None) as kept:
        yield [_keep(batch_df, topic, context, ranges, build(), Path(kept) / str(n)) for n, ranges in enumerate(packed)]


def share_out(ranges: Sequence[OffsetRange], limit: int) -> dict[int, int]:
    """How much of the limit the records of each partition may take: half of it in equal parts, half by their number."""
    read = [r for r in ranges if r.length]
    offsets = sum(r.length for r in read)
    return {r.kafka_partition: limit // 2 // len(read) + limit // 2 * r.length // offsets for r in read}


def pack(ranges: Sequence[OffsetRange], pieces: Iterable[tuple[int, int, int]], limit: int) -> list[list[OffsetRange]]:
    """Packs the ranges into portions that are read at a time: as many pieces as fit, in order, at least one.

    A piece is a partition, the offset that it goes up to, and what its records weigh (`record_parser.build_parser`).
    """
    next_offsets = {r.kafka_partition: r.from_offset for r in ranges}
    packed: list[dict[int, OffsetRange]] = []
    taken = 0
    for partition, until, weight in pieces:
        taken += weight
        if not packed or taken > limit:
            packed.append({})
            taken = weight
        before = packed[-1].get(partition)
        start = next_offsets[partition] if before is None else before.from_offset
        packed[-1][partition] = OffsetRange(ranges[0].topic, partition, start, until)
        next_offsets[partition] = until
    return [list(found.values()) for found in packed]


def _keep(
    batch_df: DataFrame, topic: Topic, context: StreamContext, ranges: Sequence[OffsetRange], parser: Parser, path: Path
) -> Portion:
    """Reads the ranges and keeps their records in a file."""
    rows = read_ranges(batch_df.sparkSession, context, ranges).mapInArrow(parser, MESSAGE_DDL)
    records = read_messages(topic, rows.toArrow())
    with pa.ipc.new_file(path, records.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(records)

    def load() -> pa.Table:
        with pa.ipc.open_file(path) as kept:
            return kept.read_all()

    return Portion(len(records), load)
