"""Tables that Arrow reads by itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow.fs import PyFileSystem

from platform_assets.checks.ledger_proof import open_files
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
