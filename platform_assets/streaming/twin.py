"""A stream's twin: its transformation over a batch of the table it reads, and what differs between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.specs import StreamSpec, TableSource, in_words

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


def read_events(
    session: SparkSession,
    uri: str,
    version: int,
    start: datetime | None = None,
    end: datetime | None = None,
    users: Sequence[str] | None = None,
) -> DataFrame:
    """Rows of a version of silver.events with `event_time` in [`start`, `end`], of these users (None: all)."""
    from pyspark.sql import functions as F

    events = session.read.format("delta").option("versionAsOf", version).load(uri)
    if start is not None:
        events = events.where((F.col("event_date") >= F.lit(start.date())) & (F.col("event_time") >= F.lit(start)))
    if end is not None:
        events = events.where((F.col("event_date") <= F.lit(end.date())) & (F.col("event_time") <= F.lit(end)))
    if users is None:
        return events
    return events.join(F.broadcast(session.createDataFrame([(user,) for user in users], "user_id string")), "user_id")


def run_twin(events: DataFrame, stream: StreamSpec) -> DataFrame:
    """Rows of the stream's table from a batch of the events that it reads, in the order of the table's columns."""
    assert isinstance(stream.source, TableSource) and stream.transform is not None
    rows = stream.transform(events.select(*stream.source.columns))
    return rows.select(*(column.name for column in stream.main_table.columns))


def find_touched(twin: pa.Table, late: pa.Table, stream: StreamSpec) -> pa.Table:
    """The rows of a stream's table that span one of these events (`event_time`, `user_id`)."""
    with _connect(twin=_select(twin, stream), late=late) as connection:
        return connection.sql(f"from twin f where exists (from late l where {_touches(stream)})").to_arrow_table()


@dataclass(frozen=True)
class Difference:
    """What a repair has to do.

    `rows` are the twin's that the table lacks or has otherwise; `stale` the table's that they stand in for under
    another key (sessions that became one), or that the twin has not at all (nothing is left of what they counted);
    `closed` the late events of which nothing is open any more.
    """

    rows: pa.Table
    stale: pa.Table
    closed: pa.Table


def compare(touched: pa.Table, table: pa.Table, late: pa.Table, stream: StreamSpec, watermark: datetime) -> Difference:
    """Compares the twin's rows that late events touch, as far as they are final, with the table's rows around them."""
    assert stream.span is not None
    span, columns = stream.span, ", ".join(column.name for column in stream.main_table.columns)
    is_final = f"f.{span.end_column} + interval '{in_words(span.inactivity)}' <= getvariable('watermark')"
    same_key = " and ".join(f"e.{name} is not distinct from f.{name}" for name in stream.main_table.key)
    inside = f"e.{span.start_column} >= f.{span.start_column} and e.{span.end_column} <= f.{span.end_column}"
    with _connect(touched=_select(touched, stream), present=_select(table, stream), late=late) as connection:
        connection.execute(f"set variable watermark = timestamptz '{watermark.isoformat()}'")
        connection.execute(f"create temp table wanted as from touched f where {is_final}")
        rows = connection.sql(f"select {columns} from wanted except all select {columns} from present").to_arrow_table()
        stale = connection.sql(
            f"""from present e where exists (from wanted f where e.user_id = f.user_id and {inside})
                and not exists (from wanted f where {same_key})"""
            if span.inactivity
            else f"""from present f where {is_final} and exists (from late l where {_touches(stream)})
                and not exists (from wanted e where {same_key})"""
        ).to_arrow_table()
        closed = connection.sql(
            f"from late l where not exists (from touched f where not ({is_final}) and {_touches(stream)})"
        ).to_arrow_table()
        return Difference(rows, stale, closed)


def _touches(stream: StreamSpec) -> str:
    assert stream.span is not None
    same_user = " and l.user_id = f.user_id" if stream.span.by_user else ""
    return f"l.event_time between f.{stream.span.start_column} and f.{stream.span.end_column}{same_user}"


def _select(rows: pa.Table, stream: StreamSpec) -> pa.Table:
    return rows.select([column.name for column in stream.main_table.columns])


def _connect(**tables: pa.Table) -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for name, rows in tables.items():
        connection.register(name, rows)
    return connection
