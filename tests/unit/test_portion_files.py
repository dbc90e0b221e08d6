"""Rows that are written portion by portion are those that delta-rs would have written, and are found by filters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.delta.portion_files import NewFile, PortionWriter, TableFolder
from platform_assets.streaming.derive.batch_results import read_files
from platform_assets.tables.spec import Column, TableSpec
from tests.generated_cases import examples

SPEC = TableSpec(
    "silver.rows", "Rows", "one row", ("n",),
    (
        Column("n", "bigint", "Number"), Column("at", "timestamp", "Time"), Column("text", "string", "Text"),
        Column("raw", "binary", "Bytes"), Column("amount", "double", "Amount"), Column("day", "date", "Day"),
    ),
    partition_columns=("day",), statistics_columns=("n", "at"),
)  # fmt: skip
NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
_row = st.fixed_dictionaries(
    {
        "n": st.integers(-(2**63), 2**63 - 1),
        "at": st.none() | st.integers(-(10**12), 10**12).map(lambda micros: NOON + timedelta(microseconds=micros)),
        "text": st.none() | st.text(max_size=5),
        "raw": st.none() | st.binary(max_size=5),
        "amount": st.none() | st.floats(),
        "day": st.none() | st.sampled_from([date(2026, 6, 9), date(2026, 6, 10)]),
    }
)


def write_files(where: TableFolder, portions: Iterable[pa.Table]) -> list[NewFile]:
    writer = PortionWriter(where)
    for portion in portions:
        writer.write(portion)
    return writer.close()


def make(root: Path) -> DeltaBatchWriter:
    return DeltaBatchWriter(SPEC, StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None))


def commit(number: int = 0) -> CommitInfo:
    return CommitInfo.of_batch("q", "app", number, source=number)


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    utc = pa.timestamp("us", tz="UTC")
    types = {"n": pa.int64(), "at": utc, "text": pa.string(), "raw": pa.binary(), "amount": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema({**types, "day": pa.date32()}.items()))


def key(row: dict[str, Any]) -> str:
    return repr(sorted(row.items()))


@examples(60, quick=10)
@given(st.lists(st.lists(_row, max_size=4), max_size=4))
def test_rows_are_those_of_delta_rs_and_no_filter_loses_one(
    tmp_path_factory: pytest.TempPathFactory, portions: list[list[dict[str, Any]]]
) -> None:
    root = tmp_path_factory.mktemp("rows")
    ours, theirs = make(root / "ours"), make(root / "theirs")
    rows = [row for portion in portions for row in portion]
    assert ours.append_files(write_files(ours.folder, map(as_table, portions)), commit())
    assert not ours.append_files(write_files(ours.folder, map(as_table, portions)), commit()), "it is there already"
    theirs.append(as_table(rows), commit())
    found, expected = (open_table(table.uri) for table in (ours, theirs))
    assert sorted(map(key, found.to_pyarrow_table().to_pylist())) == sorted(
        map(key, expected.to_pyarrow_table().to_pylist())
    )
    assert found.schema() == expected.schema() and ours.version == 1
    for row in rows:
        for name in ("n", "at", "day"):
            if row[name] is not None:
                condition = ds.field(name) == pa.scalar(row[name], as_table([]).schema.field(name).type)
                assert row["n"] in found.to_pyarrow_dataset().to_table(filter=condition)["n"].to_pylist()
    count = sum(pa.table(found.get_add_actions(flatten=True))["num_records"].to_pylist())
    assert count == len(rows)


def test_the_commit_is_of_the_batch_and_another_batch_is_refused(tmp_path: Path) -> None:
    table = make(tmp_path)
    rows = as_table([{"n": 1, "day": date(2026, 6, 10)}])
    table.append_files(write_files(table.folder, [rows]), commit())
    found = table.find_commit(lambda info: info.query == "q")
    assert found is not None and (found[1].batch, found[1].rows, table.committed_batch("app")) == (0, 1, 0)
    with pytest.raises(CheckpointMismatchError):
        other = make(tmp_path)
        other.append_files(write_files(other.folder, [rows]), CommitInfo.of_batch("q", "app", 0, source=7))


def test_a_partition_is_a_folder_of_the_table_whatever_its_value(tmp_path: Path) -> None:
    spec = TableSpec(
        "gold.rows", "Rows", "one row", ("n",),
        (Column("n", "bigint", "Number"), Column("text", "string", "Text"), Column("x", "double", "Number")),
        partition_columns=("text", "x"),
    )  # fmt: skip
    table = DeltaBatchWriter(spec, StreamContext(str(tmp_path / "lake"), {}, "earliest", 1, 1.0, 1, None))
    texts = ["x/../../../../out", "a/b", "%2F", "a b", "ü", "..", None]
    rows = pa.table({"n": range(len(texts)), "text": texts, "x": [float("nan"), 0.5, None, 1.0, 2.0, 3.0, 4.0]})
    files = write_files(table.folder, [rows])
    assert table.append_files(files, commit())
    assert {path.name for path in tmp_path.iterdir()} == {"lake"}
    found = DeltaTable(table.uri).to_pyarrow_table(columns=["n", "text"])
    assert sorted(found.to_pylist(), key=lambda row: row["n"]) == rows.select(["n", "text"]).to_pylist()
    again = pa.concat_tables(read_files(table.folder, files))
    assert sorted(again["n"].to_pylist()) == rows["n"].to_pylist()


def test_what_is_cut_short_leaves_no_row(tmp_path: Path) -> None:
    table = make(tmp_path)

    def read() -> Any:
        yield as_table([{"n": 1, "day": date(2026, 6, 10)}])
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        table.append_files(write_files(table.folder, read()), commit())
    assert DeltaTable(table.uri).version() == 0
    table.append_files(write_files(table.folder, [as_table([{"n": 1}])]), commit())
    assert len(open_table(table.uri).to_pyarrow_table()) == 1


_PEAK = """
import random, resource, sys
import pyarrow as pa
from tests.unit.test_portion_files import as_table, commit, make, write_files
from pathlib import Path

table = make(Path(sys.argv[1]))
read = lambda count: (as_table([{"n": n, "raw": random.randbytes(16 << 20)}]) for n in range(count))
table.append_files(write_files(table.folder, read(3)), commit(0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table.append_files(write_files(table.folder, read(30)), commit(1))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_portions(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path)], check=True, capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    # All thirty are 480 MiB.
    assert int(done.stdout) < 120, f"{done.stdout} MiB more for 27 records more of 16 MiB"
