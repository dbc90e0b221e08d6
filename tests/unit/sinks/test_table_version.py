"""A table as a whole at one version: opened, refused, and cut into portions that each call cuts the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from platform_assets.errors import StoreUnavailableError
from platform_assets.sinks import table_version
from platform_assets.sinks.table_log import LogGapError
from platform_assets.sinks.table_version import cut_portions, list_files, open_version
from resources.lakehouse import LakehouseResource

NAME = "gold.numbers"


def write(lakehouse: LakehouseResource, *numbers: int) -> DeltaTable:
    uri = lakehouse.table_uri(NAME)
    write_deltalake(uri, pa.table({"number": numbers}), mode="append")
    return DeltaTable(uri)


def test_a_version_is_read_as_it_was(lakehouse: LakehouseResource) -> None:
    write(lakehouse, 1, 2)
    table_id = str(write(lakehouse, 3).metadata().id)
    write(lakehouse, 4)
    found = open_version(lakehouse, NAME, 1, table_id)
    assert sorted(found.to_pyarrow_table()["number"].to_pylist()) == [1, 2, 3]
    assert [Path(file.path).suffix for file in list_files(found)] == [".parquet", ".parquet"]


def test_what_cannot_be_read_any_more_is_a_gap(lakehouse: LakehouseResource) -> None:
    with pytest.raises(LogGapError, match=f"{NAME} no longer has version 0"):
        open_version(lakehouse, NAME, 0)
    table_id = str(write(lakehouse, 1).metadata().id)
    with pytest.raises(LogGapError, match=f"{NAME} no longer has version 1"):
        open_version(lakehouse, NAME, 1)
    shutil.rmtree(lakehouse.table_uri(NAME))
    write(lakehouse, 1)
    with pytest.raises(LogGapError, match=f"{NAME} is another table"):
        open_version(lakehouse, NAME, 0, table_id)
    write(lakehouse, 2).create_checkpoint()
    Path(lakehouse.table_uri(NAME), "_delta_log", f"{0:020}.json").unlink()
    with pytest.raises(LogGapError, match=f"the log of {NAME} no longer holds version 0"):
        open_version(lakehouse, NAME, 0)


def test_a_store_that_is_away_is_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap would have the whole table sent or loaded once more. The text is delta-rs's, of a store that is stopped."""

    class Opened:
        def version(self) -> int:
            return 7

        def load_as_version(self, version: int) -> None:
            raise DeltaError("Generic S3 error: Error performing GET ... error sending request ... (Connect)")

    monkeypatch.setattr(LakehouseResource, "find_table", lambda lakehouse, name: Opened())
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        open_version(LakehouseResource(root="s3://bucket/lake"), NAME, 3)


def test_each_file_is_in_one_portion(lakehouse: LakehouseResource, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        files = list_files(write(lakehouse, number))
    assert cut_portions(files) == [files] and cut_portions([]) == []
    monkeypatch.setattr(table_version, "_PORTION_BYTES", 2 * files[0].size_bytes)
    portions = cut_portions(files)
    assert [file for portion in portions for file in portion] == files
    assert [len(portion) for portion in portions] == [2, 2, 2, 1]
    monkeypatch.setattr(table_version, "_PORTION_BYTES", 1)
    assert [len(portion) for portion in cut_portions(files)] == [1] * 7
