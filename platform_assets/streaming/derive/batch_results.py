"""What a batch of a stream over a table has made, written by Spark's tasks, so that it may be larger than memory.

A task keeps its rows until they are more than a few, and sends them to the driver: most batches have few, and one file
of all tasks is read better than one of each. A task that makes more writes them into files, as they come, and sends
what these files are. Nobody has committed them yet; those of a task that was cut short belong to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from platform_assets.streaming.arrow_messages import pack, unpack
from platform_assets.streaming.checkpoint.checkpoint import STATE_PARTS
from platform_assets.streaming.delta.portion_files import NewFile, PortionWriter, TableFolder
from platform_assets.streaming.derive.long_sessions import take_out_long
from platform_assets.streaming.register.forgotten_names import ForgottenNames
from platform_assets.streaming.result_span import ResultSpan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# What the tasks of a batch send to the driver together, at most: some 30 MiB of rows of the shop's streams.
_FEW_ROWS = 200_000
_FEW_BYTES = 32 * 1024 * 1024
# With hundreds of tasks each still sends what is not worth a file.
_LEAST_ROWS, _LEAST_BYTES = 1_000, 200_000
_SENT = "rows binary, long binary, files binary"


@dataclass(frozen=True)
class ResultOrder:
    """What the tasks of a batch are told. `forgotten`: whose rows are left out, by `span.user_column`; None: nobody's.

    What was read before its user was forgotten is in the state for as long as it is open. More than `few_rows` or
    `few_bytes` a task writes into files.
    """

    folder: TableFolder
    span: ResultSpan
    forgotten: ForgottenNames | None
    few_rows: int
    few_bytes: int


@dataclass(frozen=True)
class BatchResults:
    """The rows that came to the driver, and the files with all others. `long` as `take_out_long` has it.

    A table is None where there are none.
    """

    rows: pa.Table | None
    long: pa.Table | None
    files: tuple[NewFile, ...]

    @property
    def count(self) -> int:
        """How many rows the batch has."""
        return (0 if self.rows is None else len(self.rows)) + sum(file.rows for file in self.files)

    def put_into_files(self, folder: TableFolder) -> BatchResults:
        """All rows in files of this folder: those too that came to the driver."""
        if self.rows is None:
            return self
        writer = PortionWriter(folder)
        writer.write(self.rows)
        return BatchResults(None, self.long, (*self.files, *writer.close()))


def read_files(folder: TableFolder, files: Iterable[NewFile]) -> Iterator[pa.Table]:
    """The rows of these files, a row group at a time, with the columns whose values they share."""
    for file in files:
        with pq.ParquetFile(file.path, filesystem=folder.files) as source:
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                for name, text in file.partition.items():
                    value = pa.scalar(text, pa.string()).cast(folder.schema.field(name).type)
                    rows = rows.append_column(name, pa.repeat(value, len(rows)))
                yield rows.select(folder.schema.names)


def make_results(
    batch_df: DataFrame, folder: TableFolder, span: ResultSpan, forgotten: ForgottenNames | None, most_rows: int | None
) -> BatchResults:
    """Has Spark make the batch, once. On the thread of its query; raises what Spark raises for a failed job.

    `most_rows`: more the batch will not have; None where that is not known. Few of them need not go through Python in
    the tasks, which costs a tenth of a small batch.
    """
    if most_rows is not None and most_rows <= _FEW_ROWS:
        order = ResultOrder(folder, span, forgotten, _FEW_ROWS, _FEW_BYTES)
        kept, long, files = _take(order, batch_df.toArrow().to_batches())
        return BatchResults(_concat(kept), _concat(long), tuple(files))
    tasks = int(batch_df.sparkSession.conf.get(STATE_PARTS) or 1)
    few_rows, few_bytes = max(_LEAST_ROWS, _FEW_ROWS // tasks), max(_LEAST_BYTES, _FEW_BYTES // tasks)
    order = ResultOrder(folder, span, forgotten, few_rows, few_bytes)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield write_results(order, batches)

    sent = batch_df.mapInArrow(run, _SENT).toArrow()
    return BatchResults(
        _unpack_all(sent["rows"]),
        _unpack_all(sent["long"]),
        tuple(file for message in sent["files"] for file in msgspec.json.decode(message.as_py(), type=list[NewFile])),
    )


def write_results(order: ResultOrder, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """What one task sends of its rows. Called in a task."""
    kept, long, files = _take(order, batches)
    return pa.record_batch(
        [[pack(kept)], [pack(long)], [msgspec.json.encode(files)]],
        pa.schema([(name, pa.binary()) for name in ("rows", "long", "files")]),
    )


def _take(
    order: ResultOrder, batches: Iterable[pa.RecordBatch]
) -> tuple[list[pa.Table], list[pa.Table], list[NewFile]]:
    """The rows that are few, the ends of what is too long, and the files of rows that are many."""
    kept, long, writer = list[pa.Table](), list[pa.Table](), None
    count = size = 0
    for batch in batches:
        rows = _leave_out_forgotten(pa.Table.from_batches([batch]), order)
        if order.span.longest is not None:
            rows, of_long = take_out_long(rows, order.span)
            long.append(of_long)
        if writer is not None:
            writer.write(rows)
            continue
        kept.append(rows)
        count, size = count + len(rows), size + rows.nbytes
        if count > order.few_rows or size > order.few_bytes:
            writer = PortionWriter(order.folder)
            for rows in kept:
                writer.write(rows)
            kept = []
    files = [] if writer is None else writer.close()
    return [table for table in kept if len(table)], [table for table in long if len(table)], files


def _leave_out_forgotten(rows: pa.Table, order: ResultOrder) -> pa.Table:
    if order.forgotten is None:
        return rows
    is_forgotten = order.forgotten.find_rows(rows, order.span.user_column)
    return rows.filter(pa.array(~is_forgotten)) if is_forgotten.any() else rows


def _unpack_all(messages: pa.ChunkedArray) -> pa.Table | None:
    return _concat([table for message in messages if (table := unpack(message.as_py())) is not None])


def _concat(tables: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(tables) if tables else None
