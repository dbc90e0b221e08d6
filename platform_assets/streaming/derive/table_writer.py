"""Writes the micro-batches of a stream over a table: appends, upserts by the table's key, or keeps the latest rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow.types import is_binary, is_nested

from platform_assets.object_store import is_s3
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint, Plan
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.derive.batch_results import BatchResults, make_results, read_files
from platform_assets.streaming.derive.batch_scratch import open_scratch
from platform_assets.streaming.derive.commit_source import find_files
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.derive.late_events import build_repairs, find_late_events, keep_late
from platform_assets.streaming.derive.latest_rows import keep_latest
from platform_assets.streaming.moments import at_micros
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.tables.platform import LATE_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.commit_log import AppendedFile
    from platform_assets.streaming.delta.portion_files import TableFolder
    from platform_assets.streaming.stream_spec import TableStream

# A device that was reset to the year 2000 would have the sessions of all years since read, by one event.
_NEAR = timedelta(days=1)


class TableWriter:
    """`BatchWriter` of a stream whose source is a table. A batch is one commit; one without rows makes none.

    What came too late is listed first, so that a batch that is done has its late events on record. Rows come to the
    driver where they are few (`batch_results`), and are files of Spark's tasks else.
    """

    def __init__(self, spec: TableStream, context: StreamContext) -> None:
        self.table = DeltaBatchWriter(spec.main_table, context)
        self._spec = spec
        self._source = spec.source
        self._span = spec.span
        self._context = context
        self._publisher = KafkaPublisher(spec, context)
        self._forgotten = Register(context).names if spec.span.by_user else None
        self._late = DeltaBatchWriter(LATE_EVENTS, context)
        self._checkpoint = Checkpoint.of(context, spec.main_table.name)
        uri = context.table_uri(self._source.table.name)
        self._log = CommitLog(uri, self._source.time_column, context.storage_options)

    @property
    def tables(self) -> Mapping[str, DeltaBatchWriter]:
        """See `BatchWriter`."""
        return {self._spec.main_table.name: self.table}

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`."""
        app = self._checkpoint.read_txn_app_id(self._spec.name)
        plan = self._checkpoint.read_plan(batch_id)
        info = CommitInfo.of_batch(self._spec.name, app, batch_id, source=plan.source)
        before = None if batch_id == 0 else self._checkpoint.read_plan(batch_id - 1)
        files = [] if before is None else find_files(self._log, before.source, plan.source)
        late = self._find_late(files, batch_id, plan, 0 if before is None else before.watermark_micros)
        with self._open_folder(batch_df) as folder:
            results = make_results(batch_df, folder, self._span, self._forgotten, self._count_most(files))
            if results.long is not None:
                late = _join(late, build_repairs(self._spec, results.long, at_micros(plan.time_micros)))
            if len(late):
                self._late.append(late, info)
            if results.count:
                self._commit(batch_df.sparkSession, results, folder, info)

    def _open_folder(self, batch_df: DataFrame) -> AbstractContextManager[TableFolder]:
        """Opens where the tasks write: appended rows into the table's own folder, others into one for this block.

        Many rows that replace others are put into files for Spark to merge them.
        """
        if self._spec.write_mode == "append":
            return nullcontext(self.table.folder)
        return open_scratch(self.table.folder, self._spec.name, batch_df.sparkSession, self._context)

    def _commit(self, session: SparkSession, results: BatchResults, folder: TableFolder, info: CommitInfo) -> None:
        if results.files:
            results = results.put_into_files(folder)
        if self._spec.write_mode == "append":
            if results.rows is not None:
                self.table.append(results.rows, info)
            else:
                self.table.append_files(results.files, info)
        elif self._spec.is_latest:
            tables = read_files(folder, results.files) if results.rows is None else iter((results.rows,))
            rows = keep_latest(tables, self._spec.main_table.key, self._spec.latest_by)
            self.table.put_latest(rows, self._spec.latest_by, info)
        elif results.rows is not None:
            self.table.upsert(results.rows, info)
        elif is_s3(self.table.uri):
            # Delta's Spark writer has no conditional put: one of two commits could be lost.
            self.table.upsert(pa.concat_tables(read_files(folder, results.files)), info)
        else:
            self.table.upsert_files(session, folder.uri, results.files, info)
        if self._publisher.is_active:
            # One after the other: all of a large batch would not fit the memory.
            for rows in read_files(folder, results.files) if results.rows is None else (results.rows,):
                self._publisher.publish(session, rows, str(info.batch), self.table.version)

    def _count_most(self, files: Sequence[AppendedFile]) -> int | None:
        """How many rows a batch over these files has at most; None where nobody knows.

        Rows that are not final, which others replace later, are only those that the batch's events have changed. Of
        lists and bytes a row may be of any size.
        """
        is_wide = any(is_nested(field.type) or is_binary(field.type) for field in self.table.folder.schema)
        if self._spec.write_mode == "append" or is_wide or not files or not all(file.rows for file in files):
            return None
        size, slide = self._span.window or (timedelta(1), timedelta(1))
        return sum(file.rows for file in files) * math.ceil(size / slide)

    def _find_late(self, files: list[AppendedFile], batch_id: int, plan: Plan, watermark: int) -> pa.Table:
        # A row of a later time may be of an earlier place, and the latest rows take both.
        if not files or watermark == 0 or self._spec.is_latest:
            return pa.table({})
        late = find_late_events(self._log, files, self._source, self._span, watermark)
        if self._span.inactivity and len(late):
            late = keep_late(late, self._read_ends(late), self._span)
        utc = pa.timestamp("us", tz="UTC")
        constants = {
            "query": pa.scalar(self._spec.name),
            "watermark": pa.scalar(watermark, pa.int64()).cast(utc),
            "batch_id": pa.scalar(batch_id, pa.int64()),
            "refused_at": pa.scalar(plan.time_micros, pa.int64()).cast(utc),
            "repaired_at": pa.scalar(None, utc),
            "source_version": pa.scalar(None, pa.int64()),
            "record_index": pa.scalar(None, pa.int32()),
        }
        for name, value in constants.items():
            if name not in late.column_names:
                late = late.append_column(name, pa.repeat(value, len(late)))
        return late

    def _read_ends(self, late: pa.Table) -> pa.Table:
        """Reads user and end of the rows of the stream's table that one of these events may continue."""
        import pyarrow.compute as pc

        end, near = self._span.end_column, pc.scalar(value=False)
        for first, last in split_by_pauses(late["event_time"].to_pylist(), _NEAR):
            near |= (pc.field(end) >= first - self._span.inactivity) & (pc.field(end) <= last)
        return self.table.read_arrow([self._span.user_column, end], near)


def split_by_pauses(times: Iterable[datetime], pause: timedelta) -> list[tuple[datetime, datetime]]:
    """The first and last of each run of times that has no longer pause."""
    ranges: list[tuple[datetime, datetime]] = []
    for time in sorted(set(times)):
        if ranges and time - ranges[-1][1] <= pause:
            ranges[-1] = (ranges[-1][0], time)
        else:
            ranges.append((time, time))
    return ranges


def _join(late: pa.Table, listed: pa.Table) -> pa.Table:
    schema = build_arrow_schema(LATE_EVENTS)
    return pa.concat_tables(
        [part.select(schema.names).cast(schema) for part in (late, listed) if len(part)] or [listed]
    )
