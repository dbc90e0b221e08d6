"""Tables that Arrow reads by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow.fs import PyFileSystem

from platform_assets.checks.ledger_proof import open_files
from platform_assets.checks.recomputed.snapshots import Snapshot, collect
from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.commit_log import CommitLog
from platform_assets.streaming.delta_tables import open_table
from resources.lakehouse import LakehouseResource

pytestmark = pytest.mark.unit

ROWS = pa.table({"place": ["a b", "50%", "x:y", "ü/z", "p=q", None], "n": pa.array([1, 2, 3, 4, 5, 6], pa.int64())})


def test_partitions_and_folders_of_any_name_are_read_as_delta_rs_reads_them(tmp_path: Path) -> None:
    uri = str(tmp_path / "a lake 100% é" / "gold" / "orders")
    write_deltalake(uri, ROWS, partition_by=["place"])

    expected = DeltaTable(uri).to_pyarrow_table().sort_by("n")

    assert open_table(uri).to_pyarrow_table().sort_by("n") == expected
    assert (
        LakehouseResource(root=str(tmp_path / "a lake 100% é"))
        .delta_table("gold.orders")
        .to_pyarrow_dataset()
        .to_table(columns=expected.column_names)
        .sort_by("n")
        == expected
    )


def test_local_files_are_read_without_python_at_any_version(tmp_path: Path) -> None:
    for _ in range(2):
        write_deltalake(tmp_path, ROWS, mode="append")
    table = open_table(str(tmp_path))
    assert not isinstance(table.to_pyarrow_dataset().filesystem, PyFileSystem)
    table.load_as_version(0)
    assert table.to_pyarrow_table().num_rows == len(ROWS)


def test_files_of_a_commit_are_opened_without_python_whatever_their_folders_are_called(tmp_path: Path) -> None:
    uri = str(tmp_path / "a lake 100% é" / "orders")
    write_deltalake(uri, ROWS, partition_by=["place"])
    log = CommitLog(uri, "ingested_at", {})
    commit = log.read(0)
    assert commit is not None
    dataset = open_files(DeltaTable(uri), log, [file.path for file in commit.files])
    assert not isinstance(log.filesystem, PyFileSystem)
    assert sorted(dataset.to_table(columns=["n"])["n"].to_pylist()) == [1, 2, 3, 4, 5, 6]


def read_by_duckdb(
    table: DeltaTable, condition: str = "true", bounds: tuple[str, date, date] | None = None
) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        register_pinned(connection, "rows", table, bounds)
        return connection.sql(f"SELECT * FROM rows WHERE {condition} ORDER BY n").to_arrow_table()


@pytest.mark.parametrize("folder", ["lake", "a lake 100% é", "it's", "what?"])
def test_duckdb_reads_a_version_with_its_columns_and_days(tmp_path: Path, folder: str) -> None:
    uri, day = str(tmp_path / folder), date(2026, 3, 1)
    first = pa.table({"n": [1, 2, 3], "place": ["a", "b", None], "day": [day, date(2026, 3, 2), None]})
    write_deltalake(uri, first, partition_by=["day"])
    added = pa.table({"n": [4], "place": ["d"], "day": [day], "is_new": [True]})
    write_deltalake(uri, added, mode="append", schema_mode="merge")
    table = DeltaTable(uri)
    assert read_by_duckdb(table).to_pylist() == table.to_pyarrow_table().sort_by("n").to_pylist()
    assert read_by_duckdb(table, "place = 'd' AND is_new")["n"].to_pylist() == [4]
    assert read_by_duckdb(table, "day = DATE '2026-03-01'", ("day", day, day))["n"].to_pylist() == [1, 4]
    assert read_by_duckdb(table, "true", ("day", date(2020, 1, 1), date(2020, 1, 1))).num_rows == 0
    table.load_as_version(0)
    assert read_by_duckdb(table, "is_new IS NOT TRUE")["n"].to_pylist() == [1, 2, 3]
    assert collect(Snapshot(table).all_rows().filter(pl.col("is_new").is_null()))["n"].sort().to_list() == [1, 2, 3]


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda table: table.optimize.compact(),
        lambda table: table.update({"n": "n + 10"}, predicate="n = 3"),
        lambda table: table.delete("n = 1"),
    ],
    ids=["compacted", "updated", "deleted"],
)
def test_duckdb_finds_text_in_files_that_delta_rs_has_rewritten(
    tmp_path: Path, rewrite: Callable[[DeltaTable], object]
) -> None:
    for n in (1, 2, 3):
        write_deltalake(tmp_path, pa.table({"n": [n, n], "place": [f"p{n}", "all"]}), mode="append")
    rewrite(DeltaTable(tmp_path))
    table = DeltaTable(tmp_path)
    there = sorted(row["n"] for row in table.to_pyarrow_table().to_pylist() if row["place"] == "all")
    assert read_by_duckdb(table, "place = 'all'")["n"].to_pylist() == there != []


def test_a_name_may_stand_for_other_rows_afterwards_and_for_none(tmp_path: Path) -> None:
    """A chunk of days without rows comes after one with rows, in one connection."""
    days = pa.table({"day": pa.array([date(2026, 1, 1), date(2026, 1, 2)]), "n": pa.array([1, 2], pa.int64())})
    write_deltalake(tmp_path, days, partition_by=["day"])
    table, found = open_table(str(tmp_path)), []
    with duckdb.connect() as connection:
        for day in (1, 5, 2, 5):
            register_pinned(connection, "rows", table, ("day", date(2026, 1, day), date(2026, 1, day)))
            found.append(connection.sql("SELECT n FROM rows").fetchall())
    assert found == [[(1,)], [], [(2,)], []]
