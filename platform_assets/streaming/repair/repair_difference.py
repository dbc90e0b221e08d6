"""What a repair has to change: the twin's rows that late events touch, against the table's rows around them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.repair.touched_by_events import connect, select_own
from platform_assets.streaming.result_span import ResultSpan, as_moment, has_ended, in_words, is_touched, overlap
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


@dataclass(frozen=True)
class Difference:
    """What a repair has to do.

    `rows` are the twin's that the table lacks or has otherwise; `stale` the table's that they stand in for under
    another key (sessions that became one, or fell into several), or that the twin has not at all (nothing is left of
    what they counted); `closed` the late events of which nothing is open any more; `waiting` the others, with
    `open_until`: before the watermark is there they need no second look. `are_new`: the table
    has no row of a key of `rows`.
    """

    rows: pa.Table
    are_new: bool
    stale: pa.Table
    closed: pa.Table
    waiting: pa.Table


def compare(touched: pa.Table, table: pa.Table, late: pa.Table, stream: TableStream, watermark: datetime) -> Difference:
    """Compares the twin's rows that late events touch, as far as they are final, with the table's rows around them."""
    columns = ", ".join(f'"{column.name}"' for column in stream.main_table.columns)
    inputs = {"twin": select_own(touched, stream), "present": select_own(table, stream), "late": late}
    with connect(**inputs) as connection:
        _find_wanted(connection, stream.span, as_moment(watermark, "duckdb"))
        connection.execute(
            f"create temp table lacking as select {columns} from wanted except all select {columns} from present"
        )
        _find_stale(connection, stream, as_moment(watermark, "duckdb"))
        _find_held_up(connection, stream.span)
        same_key = _have_same_key(stream, "lacking", "present")
        known = connection.sql(f"from lacking where exists (from present where {same_key}) limit 1").fetchall()
        rows, stale, closed, waiting = (
            connection.sql(query).to_arrow_table()
            for query in (
                "from lacking",
                "from stale",
                "select * exclude (number) from numbered anti join held_up using (number)",
                "select * exclude (number) from numbered join held_up using (number)",
            )
        )
        return Difference(rows, not known, stale, closed, waiting)


def _find_wanted(connection: duckdb.DuckDBPyConnection, span: ResultSpan, watermark: str) -> None:
    """Makes `wanted`, the twin's rows that may be written now, and `waiting`, those that may not."""
    ended = has_ended(span, "twin", watermark)
    # What a session has become may be open in part: it stays as it is until all of that can take its place.
    is_held = f"exists (from twin where not ({ended}) and {overlap(span, 'present', 'twin')})"
    connection.execute(f"create temp table held as from present where {is_held if span.inactivity else 'false'}")
    is_free = f"not exists (from held where {overlap(span, 'twin', 'held')})" if span.inactivity else "true"
    connection.execute(f"create temp table wanted as from twin where {ended} and {is_free}")
    connection.execute("create temp table waiting as from twin except all from wanted")


def _find_stale(connection: duckdb.DuckDBPyConnection, stream: TableStream, watermark: str) -> None:
    """Makes `stale`, the table's rows that are to go."""
    span = stream.span
    is_late = f"exists (from late where {is_touched(span, 'present', 'late')})"
    if span.inactivity:
        inside = (
            f"wanted.{span.user_column} = present.{span.user_column} "
            f"and present.{span.start_column} >= wanted.{span.start_column} "
            f"and present.{span.end_column} <= wanted.{span.end_column}"
        )
        waits = f"exists (from waiting where {overlap(span, 'present', 'waiting')})"
        is_stale = f"(exists (from wanted where {inside}) or {is_late}) and not {waits}"
    else:
        is_stale = f"{has_ended(span, 'present', watermark)} and {is_late}"
    is_wanted = f"exists (from wanted where {_have_same_key(stream, 'wanted', 'present')})"
    connection.execute(f"create temp table stale as from present where {is_stale} and not {is_wanted}")


def _find_held_up(connection: duckdb.DuckDBPyConnection, span: ResultSpan) -> None:
    """Makes `held_up`, the late events that touch what waits, in the twin or by way of the table, and until when."""
    connection.execute("create temp table numbered as select *, row_number() over () as number from late")
    in_twin = f"""
        select number, waiting.{span.end_column} from numbered
        join waiting on {is_touched(span, "waiting", "numbered")}"""
    in_table = f"""
        select number, waiting.{span.end_column} from numbered
        join present on {is_touched(span, "present", "numbered")}
        join waiting on {overlap(span, "present", "waiting")}"""
    both = f"{in_twin} union all {in_table}" if span.inactivity else in_twin
    connection.execute(f"""
        create temp table held_up as
        select number, max("{span.end_column}") + interval '{in_words(span.inactivity)}' as open_until
        from ({both}) group by number""")


def _have_same_key(stream: TableStream, one: str, other: str) -> str:
    return " and ".join(f'{one}."{name}" is not distinct from {other}."{name}"' for name in stream.main_table.key)
