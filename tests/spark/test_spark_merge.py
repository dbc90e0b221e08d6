"""Rows that Spark merges into a table: as delta-rs does, once a batch, whatever the folder is called."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from platform_assets.errors import CheckpointMismatchError, GroupOwnedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
SPEC = TableSpec(
    "gold.sums", "Sums", "one window of a user", ("window_start", "user_id"),
    (
        Column("window_start", "timestamp", "Start"),
        Column("user_id", "string", "User, or null"),
        Column("total", "decimal(18,2)", "Sum"),
    ),
    statistics_columns=("window_start",),
)  # fmt: skip
SCHEMA = pa.schema(
    [("window_start", pa.timestamp("us", tz="UTC")), ("user_id", pa.string()), ("total", pa.decimal128(18, 2))]
)
Sums = dict[tuple[datetime, str | None], int | None]


def read(uri: str) -> Sums:
    rows = DeltaTable(uri).to_pyarrow_table().to_pylist()
    found = {(row["window_start"], row["user_id"]): None if row["total"] is None else int(row["total"]) for row in rows}
    assert len(found) == len(rows)
    return found


def write_files(folder: Path, sums: Sums) -> str:
    folder.mkdir(parents=True)
    rows = [(*key, total) for key, total in sums.items()]
    for number, part in enumerate((rows[::2], rows[1::2])):
        columns = [list(column) for column in zip(*part, strict=True)] or [[], [], []]
        pq.write_table(pa.table(columns, schema=SCHEMA), folder / f"{number}.parquet")
    return str(folder)


def test_batches_of_replaced_rows_are_merged_once(spark: SparkSession, tmp_path: Path) -> None:
    root = tmp_path / "a {b,c}*"
    table = DeltaBatchWriter(SPEC, StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None))
    session, chance, expected = spark.newSession(), random.Random(3), Sums()
    for batch in range(4):
        sums: Sums = {
            (NOON + timedelta(microseconds=chance.randrange(6)), chance.choice(["a", "b", None])): chance.choice(
                [1, None]
            )
            for _ in range(8)
        }
        expected |= sums
        files = write_files(root / f"_scratch/{batch}", sums)
        info = CommitInfo.of_batch("q", "app", batch, source=batch)
        for _ in range(2):
            table.upsert_files(session, files, len(sums), info)
            assert (table.version, read(table.uri)) == (batch + 1, expected)
        found = table.find_commit(lambda known, batch=batch: known.batch == batch)  # type: ignore[misc]
        assert found is not None and (found[1].rows, found[1].source) == (len(sums), batch)
    with pytest.raises(CheckpointMismatchError):
        table.upsert_files(session, files, len(sums), CommitInfo.of_batch("q", "app", 3, source=9))
    # Both engines take turns at one table.
    changed = pa.table([[NOON], ["a"], [7]], schema=SCHEMA)
    table.upsert(changed, CommitInfo.of_batch("q", "app", 4, source=4))
    assert read(table.uri) == {**expected, (NOON, "a"): 7}


def test_a_driver_that_was_replaced_merges_nothing(spark: SparkSession, tmp_path: Path) -> None:
    def refuse() -> None:
        raise GroupOwnedError("Another host has the group.")

    table = DeltaBatchWriter(SPEC, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None, check_lease=refuse))
    files = write_files(tmp_path / "files", {(NOON, "a"): 1})
    with pytest.raises(GroupOwnedError):
        table.upsert_files(spark.newSession(), files, 1, CommitInfo.of_batch("q", "app", 0, source=0))
    assert DeltaTable(table.uri).version() == 0
