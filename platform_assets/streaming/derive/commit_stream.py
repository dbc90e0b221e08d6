"""A stream over a Delta table whose watermark follows the table's frontier."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.derive.commit_source import FORMAT, FRONTIER_COLUMN, CommitSource
from platform_assets.streaming.derive.distinct_rows import STANDS_FOR
from platform_assets.streaming.progress import INPUT, ROWS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.stream_spec import TableSource


def register_source(session: SparkSession) -> None:
    """Makes the source known to a session: once before `read_commits`, for Spark warns of a second time."""
    session.dataSource.register(CommitSource)


def read_commits(session: SparkSession, source: TableSource, context: StreamContext) -> DataFrame:
    """The source's columns as a stream; `time_column` carries the watermark, which is frontier less delay.

    Spark moves a watermark by the maximum of the column that `withWatermark` names, and closes windows over the column
    whose metadata says that it has one. Here these are two columns: the frontier moves the watermark, the event time
    has the metadata (Catalyst's `EventTimeWatermark.delayKey`, unchanged since Spark 2.1; a test holds it).
    """
    from pyspark.sql import functions as F

    delay_ms = source.watermark_delay // timedelta(milliseconds=1)
    time = source.time_column
    distinct_seconds = source.distinct_within // timedelta(seconds=1)
    # A batch for time alone reads nothing, and the sum of nothing is null.
    counted = F.coalesce(F.sum(STANDS_FOR), F.lit(0)) if distinct_seconds else F.count(time)
    rows = (
        session.readStream.format(FORMAT)
        .options(
            uri=context.table_uri(source.table.name),
            ddl=source.ddl,
            time_column=time,
            event_types=json.dumps(source.event_types),
            type_column=source.table.roles.event_type or "",
            storage_options=json.dumps(dict(context.storage_options)),
            max_rows=context.max_rows_per_batch,
            max_bytes=context.max_bytes_per_batch,
            max_tasks=session.sparkContext.defaultParallelism,
            distinct_seconds=distinct_seconds,
        )
        .load()
        .withWatermark(FRONTIER_COLUMN, f"{delay_ms} milliseconds")
        # The optimizer would push a transformation's filter down to the source, and the mark would not get as far as
        # the watermark: it pushes none through an observation.
        .observe(INPUT, counted.alias(ROWS))
    )
    return rows.where(F.col(time).isNotNull()).select(
        *(
            F.col(name).alias(name, metadata={"spark.watermarkDelayMs": delay_ms}) if name == time else F.col(name)
            for name in source.columns
        )
    )
