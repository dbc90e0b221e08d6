"""A stream's table beside its rule, both read and compared by DuckDB: no start of Spark, and not the stream's code."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.specs import StreamSpec, TableSource, in_words

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable


def register_events(
    connection: duckdb.DuckDBPyConnection, events: DeltaTable, source: TableSource, start: datetime | None = None
) -> None:
    """Names the table's rows at its version `events`; only those from `start` on, where it is given."""
    (day,) = source.table.partition_columns
    bounds = None if start is None else (day, start.date(), date.max)
    register_pinned(connection, "pinned_events", events, bounds)
    since = "true" if start is None else f"{source.time_column} >= {_literal(start)}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM pinned_events WHERE {since}")


def count_by(connection: duckdb.DuckDBPyConnection, period: str, condition: str = "true") -> list[tuple[Any, int]]:
    """How many of the events that meet the condition fall into each period (an expression)."""
    return connection.sql(f"SELECT {period}, count(*) FROM events WHERE {condition} GROUP BY ALL").fetchall()


def compare_with_rule(
    connection: duckdb.DuckDBPyConnection,
    stream: StreamSpec,
    table: DeltaTable,
    late: DeltaTable,
    state: dict[str, Any],
    start: datetime | None,
    shown: int,
) -> tuple[int, int, list[dict[str, Any]]]:
    """Final rows by the rule over the registered events; how many only one side has; the first `shown` of these.

    As `table_difference.select_final` and `count_copies` have it for Spark. What memory does not hold is spilled.
    """
    register_pinned(connection, "present", table)
    register_pinned(connection, "late_events", late)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE late AS SELECT DISTINCT event_time, user_id FROM late_events "
        f"WHERE query = '{stream.name}' AND (repaired_at IS NULL OR repaired_at > {_literal(state['updated_at'])})"
    )
    for name, rows in (("wanted", f"({stream.rule})"), ("found", "present")):
        final = _select_final(stream, rows, state["watermark"], start)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {final}")
    columns = ", ".join(column.name for column in stream.main_table.columns)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS "
        f"SELECT {columns}, sum(copies)::BIGINT AS copies FROM (SELECT *, 1 AS copies FROM wanted "
        "UNION ALL SELECT *, -1 FROM found) GROUP BY ALL HAVING sum(copies) != 0"
    )
    rows, differences = connection.sql(
        "SELECT (SELECT count(*) FROM wanted), (SELECT coalesce(sum(abs(copies)), 0)::BIGINT FROM differing)"
    ).fetchall()[0]
    first = connection.sql(f"SELECT copies, {columns} FROM differing ORDER BY {columns} LIMIT {shown}")
    return rows, differences, first.to_arrow_table().to_pylist()


def _select_final(stream: StreamSpec, rows: str, watermark: datetime, start: datetime | None) -> str:
    assert stream.span is not None
    span = stream.span
    pause = f"INTERVAL '{in_words(span.inactivity)}'"
    begin, end = f"r.{span.start_column}", f"r.{span.end_column}"
    is_final = f"{end} + {pause} <= {_literal(watermark)}"
    if start is not None:
        is_final += f" AND {begin} > {_literal(start + span.reach + span.inactivity)}"
    touches = f"l.event_time BETWEEN {begin} - {pause} AND {end} + {pause}"
    if span.by_user:
        touches += " AND l.user_id = r.user_id"
    columns = ", ".join(f"r.{column.name}" for column in stream.main_table.columns)
    return f"SELECT {columns} FROM {rows} r WHERE {is_final} AND NOT EXISTS (SELECT 1 FROM late l WHERE {touches})"


def _literal(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat()}'"
