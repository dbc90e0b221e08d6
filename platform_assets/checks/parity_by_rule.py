"""Compares a stream's table with its rule, both read by DuckDB: no start of Spark, and not the stream's code."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.repair.table_difference import COPIES
from platform_assets.streaming.result_span import is_comparable, is_touched
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable


def compare_with_rule(
    connection: duckdb.DuckDBPyConnection,
    stream: TableStream,
    table: DeltaTable,
    late: DeltaTable,
    state: dict[str, Any],
    start: datetime | None,
    shown: int,
    *,
    is_newest: bool = True,
) -> tuple[int, int, list[dict[str, Any]]]:
    """Final rows by the rule over the registered events; how many only one side has; the first `shown` of these.

    As `table_difference.select_final` and `count_copies` have it for Spark. What memory does not hold is spilled.
    `is_newest`: nothing lies behind the registered events; otherwise `state` has the watermark up to which they go.
    """
    register_pinned(connection, "present", table, columns=build_arrow_schema(stream.main_table))
    register_pinned(connection, "late_events", late)
    is_pending = f"(repaired_at IS NULL OR repaired_at > {as_timestamptz(state['updated_at'])})"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE late AS SELECT DISTINCT event_time, user_id FROM late_events "
        f"WHERE query = '{stream.name}' AND {is_pending}"
    )
    is_final = is_comparable(stream.span, "r", state["watermark"], start, "duckdb")
    # Nothing begins after the newest event, however far the watermark is: such a row is somebody else's.
    newest = f"(SELECT max({stream.source.time_column}) FROM events)"
    is_found = f"({is_final} OR r.{stream.span.start_column} > {newest})" if is_newest else is_final
    for name, rows, condition in (("wanted", f"({stream.rule})", is_final), ("found", "present", is_found)):
        chosen = _select_settled(stream, rows, condition)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {chosen}")
    columns = ", ".join(f'"{column.name}"' for column in stream.main_table.columns)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS "
        f"SELECT {columns}, sum({COPIES})::BIGINT AS {COPIES} FROM (SELECT *, 1 AS {COPIES} FROM wanted "
        f"UNION ALL SELECT *, -1 FROM found) GROUP BY ALL HAVING sum({COPIES}) != 0"
    )
    rows, differences = connection.sql(
        f"SELECT (SELECT count(*) FROM wanted), (SELECT coalesce(sum(abs({COPIES})), 0)::BIGINT FROM differing)"
    ).fetchall()[0]
    first = connection.sql(f"SELECT {COPIES}, {columns} FROM differing ORDER BY {columns} LIMIT {shown}")
    return rows, differences, first.to_arrow_table().to_pylist()


def _select_settled(stream: TableStream, rows: str, condition: str) -> str:
    """The rows for which a condition holds, without those that an unrepaired late event touches."""
    columns = ", ".join(f'r."{column.name}"' for column in stream.main_table.columns)
    is_late = f"EXISTS (SELECT 1 FROM late l WHERE {is_touched(stream.span, 'r', 'l')})"
    return f"SELECT {columns} FROM {rows} r WHERE {condition} AND NOT {is_late}"
