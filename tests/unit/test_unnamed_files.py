"""Files that no version names go when they are old; those that a version or a writer may yet name stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from platform_assets.streaming.delta.unnamed_files import UNNAMED_FILES_HOURS, remove_unnamed_files


def write_file(path: Path, hours: float) -> Path:
    path.write_bytes(b"rows of a process that was killed")
    age(path, hours)
    return path


def age(path: Path, hours: float) -> None:
    at = time.time() - hours * 3600
    os.utime(path, (at, at))


def test_what_a_killed_process_left_goes_after_a_week(tmp_path: Path) -> None:
    for day in ("1", "2"):
        write_deltalake(tmp_path, pa.table({"day": [day], "n": [1]}), mode="append", partition_by=["day"])
    table = DeltaTable(tmp_path)
    named = set(tmp_path.rglob("*.parquet"))
    table.delete("day = '1'")  # a reader may have the version before
    for path in named:
        age(path, 2 * UNNAMED_FILES_HOURS)
    left = {write_file(tmp_path / folder / "left.parquet", UNNAMED_FILES_HOURS + 1) for folder in ("day=1", "day=2")}
    written = write_file(tmp_path / "day=2" / "written.parquet", UNNAMED_FILES_HOURS - 1)
    remove_unnamed_files(table, kept_hours=10 * UNNAMED_FILES_HOURS)
    assert set(tmp_path.rglob("*.parquet")) == named | left | {written}
    remove_unnamed_files(table)
    assert set(tmp_path.rglob("*.parquet")) == named | {written}
    assert DeltaTable(tmp_path).to_pyarrow_table()["day"].to_pylist() == ["2"]
