"""Tables that Arrow reads by itself."""

from __future__ import annotations

import ast
import itertools
import math
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.fs import PyFileSystem

from platform_assets.checks.ledger_proof import open_files
from platform_assets.checks.recomputed.snapshots import Snapshot, collect
from platform_assets.delta_reader import read_portions, register_pinned
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import open_table
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


AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
KINDS = {
    "n": pa.int64(), "at": pa.timestamp("us", tz="UTC"), "day": pa.date32(), "amount": pa.float64(),
    "is_new": pa.bool_(), "added": pa.int64(), "flag_added": pa.bool_(),
}  # fmt: skip
VALUES = {
    "n": st.integers(-3, 3), "at": st.integers(-2000, 2000).map(lambda micros: AT + timedelta(microseconds=micros)),
    "day": st.integers(0, 4).map(lambda day: date(2026, 3, 1 + day)),
    "amount": st.sampled_from([0.0, -0.0, 1.5, -2.5, math.inf, -math.inf]), "is_new": st.booleans(),
    "added": st.integers(-3, 3), "flag_added": st.booleans(),
}  # fmt: skip
any_row = st.fixed_dictionaries({name: st.none() | value for name, value in VALUES.items()})
files = st.lists(st.lists(any_row, min_size=1, max_size=4), min_size=1, max_size=5)
any_bounds = st.fixed_dictionaries(VALUES)


def is_so(value: Any, how: str, bound: Any) -> bool:
    if how == "null" or value is None:
        return how == "null" and value is None
    return {"==": value == bound, "!=": value != bound, "<": value < bound, "<=": value <= bound, ">": value > bound,
            ">=": value >= bound}[how]  # fmt: skip


def in_arrow(name: str, how: str, bound: Any) -> ds.Expression:
    field, value = ds.field(name), pa.scalar(bound, KINDS[name])
    return {"==": field == value, "!=": field != value, "<": field < value, "<=": field <= value, ">": field > value,
            ">=": field >= value, "null": field.is_null()}[how]  # fmt: skip


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(files, st.integers(0, 3), st.sampled_from([None, None, "n,at", "added"]), st.booleans(), any_bounds)
def test_no_filter_loses_a_row(
    contents: list[list[dict[str, Any]]],
    columns_come: int,
    statistics: str | None,
    by_day: bool,
    bounds: dict[str, Any],
) -> None:
    """Over appended files, of which the first ones have no columns that were added later."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for number, content in enumerate(contents):
            known = list(KINDS) if number >= columns_come else list(KINDS)[:-2]
            content = [{name: row[name] for name in known} for row in content]
            rows += [{**dict.fromkeys(KINDS), **row} for row in content]
            data_of_file = pa.Table.from_pylist(content, pa.schema([(name, KINDS[name]) for name in known]))
            write_deltalake(
                folder, data_of_file, mode="append", schema_mode="merge", partition_by=["day"] if by_day else None,
                configuration={"delta.dataSkippingStatsColumns": statistics} if statistics and not number else None,
            )  # fmt: skip
        table = open_table(folder)
        dataset = table.to_pyarrow_dataset()
        for name, how in itertools.product(dataset.schema.names, ["==", "!=", "<", "<=", ">", ">=", "null"]):
            expected = as_texts([row for row in rows if is_so(row[name], how, bounds[name])])
            found = dataset.to_table(filter=in_arrow(name, how, bounds[name])).to_pylist()
            assert as_texts(found) == expected, (name, how, bounds[name])


def as_texts(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(str, pa.Table.from_pylist(rows, pa.schema(list(KINDS.items()))).to_pylist()))


def test_files_are_left_out_that_surely_hold_nothing(tmp_path: Path) -> None:
    for n in (1, 2, 3, None):
        write_deltalake(tmp_path, pa.table({"n": pa.array([n, None], pa.int64())}), mode="append")
    write_deltalake(tmp_path, pa.table({"n": pa.array([4], pa.int64())}), mode="append")
    dataset, n = open_table(str(tmp_path)).to_pyarrow_dataset(), ds.field("n")
    # The file without any number may hold whatever is asked for, by its log.
    for condition, count in ((n > 2, 3), (n == 1, 2), (n.isin([1, 4]), 3), (n > 4, 1), (n.is_null(), 4)):
        assert len(list(dataset.get_fragments(filter=condition))) == count, condition


def test_bounds_of_a_version_are_meant_with_the_whole_of_their_last_millisecond(tmp_path: Path) -> None:
    at = pa.array([AT], pa.timestamp("us", tz="UTC"))
    write_deltalake(tmp_path, pa.table({"n": pa.array([1], pa.int64()), "at": at}))
    since = AT.replace(microsecond=123400)
    assert read_by_duckdb(open_table(str(tmp_path)), "true", ("at", since, datetime.max.replace(tzinfo=UTC))).num_rows
    later = AT + timedelta(seconds=1)
    assert not read_by_duckdb(
        open_table(str(tmp_path)), "true", ("at", later, datetime.max.replace(tzinfo=UTC))
    ).num_rows


@pytest.mark.parametrize("folder", ["all*", "a{b,c}", "it's 1", "50%off", "a:b;c&d=e+f"])
def test_a_root_of_odd_characters_is_read_by_all_readers(tmp_path: Path, folder: str) -> None:
    """DuckDB would take such a path for a pattern, so it reads through Arrow, rewritten text too."""
    (tmp_path / "allowed" / "silver").mkdir(parents=True)  # "all*" would find it
    uri = str(tmp_path / folder)
    for n in (1, 2):
        rows = pa.table({"n": pa.array([n], pa.int64()), "place": [f"p{n}"], "day": [date(2026, 3, n)]})
        write_deltalake(uri, rows, mode="append", partition_by=["day"])
    DeltaTable(uri).update({"n": "n + 10"}, predicate="n = 1")
    table = open_table(uri)
    assert table.to_pyarrow_table().num_rows == 2
    assert table.to_pyarrow_table(filters=ds.field("n") > 10)["place"].to_pylist() == ["p1"]
    assert read_by_duckdb(table, "place = 'p1'")["n"].to_pylist() == [11]
    assert read_by_duckdb(table, "place = 'p2' AND day = DATE '2026-03-02'")["n"].to_pylist() == [2]
    assert sorted(collect(Snapshot(table).all_rows())["n"].to_list()) == [2, 11]


def test_options_of_delta_rs_are_not_taken_silently(tmp_path: Path) -> None:
    write_deltalake(tmp_path, ROWS)
    with pytest.raises(TypeError, match="in one way"):
        open_table(str(tmp_path)).to_pyarrow_dataset(as_large_types=True)


def test_tables_are_opened_by_the_reader_alone() -> None:
    """A `DeltaTable` built elsewhere would give delta-rs's own dataset."""
    root = Path(__file__).parents[2]
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for folder in ("platform_assets", "jobs", "resources")
        for path in sorted((root / folder).rglob("*.py"))
        if "DeltaTable(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "DeltaTable"
    ]
    assert [place.split(":")[0] for place in found] == ["platform_assets/delta_reader.py"], found


def test_portions_are_the_rows_of_a_filter_a_few_at_a_time(tmp_path: Path) -> None:
    """The files are with and without a column, by partitions, and row groups are left out."""
    uri = str(tmp_path / "a lake" / "orders")
    for start in (0, 100):
        rows = pa.table({"place": ["a b", "50%"] * 50, "n": pa.array(range(start, start + 100), pa.int64())})
        extra = rows.append_column("later", pa.array(range(100), pa.int32())) if start else rows
        write_deltalake(uri, extra, mode="append", schema_mode="merge", partition_by=["place"])
    dataset = open_table(uri).to_pyarrow_dataset()
    columns = ["place", "later", "n"]
    for condition in (None, pc.field("n") >= 90, (pc.field("n") < 110) & pc.field("later").is_null()):
        expected = dataset.to_table(columns=columns, filter=condition).sort_by("n")
        portions = list(read_portions(dataset, columns, condition, 7))
        assert max(map(len, portions)) <= 7
        assert pa.concat_tables(portions).sort_by("n") == expected
    assert list(read_portions(dataset, ["n"], pc.field("n") > 500)) == []


def test_the_history_of_an_opened_table_ends_with_it(tmp_path: Path) -> None:
    uri = str(tmp_path)
    for number in range(70):  # more than are read at a time
        write_deltalake(uri, ROWS.slice(0, 1), mode="append", commit_properties=CommitProperties({"is": str(number)}))
    opened = open_table(uri)
    expected = DeltaTable(uri).history()
    write_deltalake(uri, ROWS.slice(0, 1), mode="append")
    assert opened.history() == expected
    assert [(commit["version"], commit["is"]) for commit in opened.history(2)] == [(69, "69"), (68, "68")]
    assert opened.history(1_000) == expected
    (tmp_path / "_delta_log" / f"{3:020d}.json").unlink()  # as the log's clean-up does
    assert [commit["version"] for commit in opened.history()] == list(range(69, 3, -1))


def test_a_commit_without_facts_is_counted(tmp_path: Path) -> None:
    """Delta's protocol leaves them to the writer."""
    for _ in range(3):
        write_deltalake(tmp_path, ROWS, mode="append")
    path = tmp_path / "_delta_log" / f"{1:020d}.json"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if '"commitInfo"' not in line))
    assert [(c["version"], "timestamp" in c) for c in open_table(str(tmp_path)).history()] == [
        (2, True),
        (1, False),
        (0, True),
    ]
