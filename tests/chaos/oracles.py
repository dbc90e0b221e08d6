"""Compares the gold tables with what DuckDB makes of silver.events by the streams' rules, not by their code."""

from __future__ import annotations

from pathlib import Path

import duckdb
from deltalake import DeltaTable

from platform_assets.streaming.result_span import has_ended, is_touched
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams import load_streams


def count_differences(lakehouse: Path) -> tuple[int, int]:
    """Final rows of all streams' tables, and how many of them only the table or only the oracle has.

    Final is what `platform.complete_until` says, without what an unrepaired late event touches: see docs/streams.md.
    No query may write meanwhile; a repair may.
    """
    rows = differences = 0
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        # First: of what is repaired from now on, the rows are left out.
        _create_view(connection, "late_events", _open(lakehouse, "platform.late_events"))
        connection.execute("create temp table waiting as from late_events where repaired_at is null")
        _create_view(connection, "events", _open(lakehouse, "silver.events"))
        states = _open(lakehouse, "platform.complete_until").to_pyarrow_table().to_pylist()
        until = {state["query"]: state["complete_until"] for state in states}
        for stream in load_streams():
            if isinstance(stream, TableStream):
                _create_view(connection, "present", _open(lakehouse, stream.main_table.name))
                for name, source in (("wanted", f"({stream.rule})"), ("found", "present")):
                    final = _select_final(stream, source, until[stream.name].isoformat())
                    connection.execute(f"create or replace temp table {name} as {final}")
                ((wanted, lacking, more),) = connection.sql(
                    "select (select count(*) from wanted), (select count(*) from (from wanted except all from found)), "
                    "(select count(*) from (from found except all from wanted))"
                ).fetchall()
                rows, differences = rows + wanted, differences + lacking + more
    return rows, differences


def _select_final(stream: TableStream, source: str, until: str) -> str:
    columns = ", ".join(column.name for column in stream.main_table.columns)
    ended = has_ended(stream.span, "r", f"timestamptz '{until}'")
    return f"""
        select {columns} from {source} r where {ended}
        and not exists (
          select 1 from waiting l where l.query = '{stream.name}' and {is_touched(stream.span, "r", "l")})"""


def _open(lakehouse: Path, name: str) -> DeltaTable:
    return DeltaTable(str(lakehouse.joinpath(*name.split("."))))


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable) -> None:
    connection.read_parquet(table.file_uris(), hive_partitioning=True).create_view(name, replace=True)
