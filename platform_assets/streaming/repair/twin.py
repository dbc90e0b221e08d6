"""A stream's twin: its transformation over a batch of the table that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.repair.table_difference import select_columns
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_events(
    session: SparkSession,
    uri: str,
    version: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> DataFrame:
    """Rows of a version of a table of accepted records with `event_time` in [`start`, `end`]."""
    from pyspark.sql import functions as F

    events = session.read.format("delta").option("versionAsOf", version).load(uri)
    if start is not None:
        events = events.where((F.col("event_date") >= F.lit(start.date())) & (F.col("event_time") >= F.lit(start)))
    if end is not None:
        events = events.where((F.col("event_date") <= F.lit(end.date())) & (F.col("event_time") <= F.lit(end)))
    return events


def keep_users(events: DataFrame, column: str, users: Sequence[str]) -> DataFrame:
    """The rows of these users, who are in this column."""
    from pyspark.sql import functions as F

    wanted = events.sparkSession.createDataFrame([(user,) for user in users], f"`{column}` string")
    return events.join(F.broadcast(wanted), column)


def run_twin(events: DataFrame, stream: TableStream) -> DataFrame:
    """Rows of the stream's table from a batch of its source, of all types, in the order of the table's columns."""
    from pyspark.sql import functions as F

    source = stream.source
    events = select_columns(events, source.table.columns)
    if source.event_types and source.table.roles.event_type is not None:
        events = events.where(F.col(source.table.roles.event_type).isin(*source.event_types))
    rows = stream.transform(events.select(*source.columns))
    return rows.select(*(column.name for column in stream.main_table.columns))
