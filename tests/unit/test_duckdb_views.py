"""A DuckDB file with views: what a DuckDB that knows nothing of Delta reads is the table at its newest version."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.operations.duckdb_views import write_views
from platform_assets.errors import UsageError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource

SPEC = TableSpec(
    name="gold.seen",
    description="Rows.",
    grain="number",
    key=("number",),
    columns=(
        Column("number", "bigint", "Key."),
        Column("event_date", "date", "Day."),
        Column("at", "timestamp", "Time."),
        Column("tags", "array<string>", "Texts."),
    ),
    partition_columns=("event_date",),
)


def append(lakehouse: LakehouseResource, spec: TableSpec, *rows: dict[str, Any]) -> None:
    table = create_table(lakehouse.table_uri(spec.name), spec)
    whole = [{column.name: row.get(column.name) for column in spec.columns} for row in rows]
    write_deltalake(table, pa.Table.from_pylist(whole, build_arrow_schema(spec)), mode="append")


def ask(place: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(place), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).fetchall()


def test_views_are_the_tables_also_older_files_and_empty_ones(tmp_path: Path) -> None:
    lakehouse, place = LakehouseResource(root=str(tmp_path / "it's a lake*")), tmp_path / "all.duckdb"
    at = datetime(2026, 1, 1, 1, 2, 3, 4, UTC)
    append(lakehouse, SPEC, {"number": 1, "event_date": date(2026, 1, 1), "at": at, "tags": ["a", None]})
    grown = replace(SPEC, columns=(*SPEC.columns, Column("channel", "string", "New.")))
    append(lakehouse, grown, {"number": 2, "event_date": date(2026, 1, 2), "channel": "web"})
    create_table(lakehouse.table_uri("silver.empty"), replace(SPEC, name="silver.empty"))
    versions = write_views(lakehouse, place)
    assert versions == {"gold.seen": 3, "silver.empty": 0}
    wanted = [(1, date(2026, 1, 1), at, ["a", None], None), (2, date(2026, 1, 2), None, None, "web")]
    assert ask(place, "FROM gold.seen ORDER BY number") == wanted
    assert ask(place, "SELECT count(*) FROM silver.empty") == [(0,)]
    assert ask(place, "SELECT comment FROM duckdb_views() WHERE view_name = 'seen'") == [("Version 3 of gold.seen",)]
    program = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('FROM gold.seen').fetchall())"
    command = [sys.executable, "-c", program, str(place)]
    read = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "'web'" in read


def test_a_view_shows_its_version_until_it_is_written_anew_and_never_half_of_one(tmp_path: Path) -> None:
    lakehouse, place = LakehouseResource(root=str(tmp_path / "lake")), tmp_path / "all.duckdb"
    for number in (1, 2):
        append(lakehouse, SPEC, {"number": number, "event_date": date(2026, 1, 1)})
    write_views(lakehouse, place)
    append(lakehouse, SPEC, {"number": 3, "event_date": date(2026, 1, 1)})
    assert ask(place, "SELECT number FROM gold.seen ORDER BY 1") == [(1,), (2,)]
    table = lakehouse.delta_table("gold.seen")
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(duckdb.IOException):
        ask(place, "FROM gold.seen")
    write_views(lakehouse, place)
    assert ask(place, "SELECT number FROM gold.seen ORDER BY 1") == [(1,), (2,), (3,)]


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is in an object store"):
        write_views(LakehouseResource(root="s3://bucket/lake"), tmp_path / "all.duckdb")
    with pytest.raises(UsageError, match="cannot be written"):
        write_views(LakehouseResource(root=str(tmp_path / "lake")), tmp_path / "missing" / "all.duckdb")
    assert list(tmp_path.glob(".*")) == []
