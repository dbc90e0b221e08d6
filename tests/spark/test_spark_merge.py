"""Rows that Spark merges into a table: as delta-rs does, once a batch, whatever the folder is called."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.errors import CheckpointMismatchError, GroupOwnedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.portion_files import NewFile, PortionWriter, TableFolder
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


def write_files(folder: str, sums: Sums) -> list[NewFile]:
    rows = [(*key, total) for key, total in sums.items()]
    files: list[NewFile] = []
    for part in (rows[::2], rows[1::2]):
        writer = PortionWriter(TableFolder(folder, SCHEMA, 3))
        columns = [list(column) for column in zip(*part, strict=True)] or [[], [], []]
        writer.write(pa.table(columns, schema=SCHEMA))
        files += writer.close()
    return files


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
        folder = f"{root}/_scratch/{batch}"
        # A task that was started a second time, and whose first files nobody is told of.
        write_files(folder, dict.fromkeys(sums, 99))
        files = write_files(folder, sums)
        info = CommitInfo.of_batch("q", "app", batch, source=batch)
        for _ in range(2):
            table.upsert_files(session, folder, files, info)
            assert (table.version, read(table.uri)) == (batch + 1, expected)
        found = table.find_commit(lambda known, batch=batch: known.batch == batch)  # type: ignore[misc]
        assert found is not None and (found[1].rows, found[1].source) == (len(sums), batch)
    with pytest.raises(CheckpointMismatchError):
        table.upsert_files(session, folder, files, CommitInfo.of_batch("q", "app", 3, source=9))
    Path(folder, files[0].path).unlink()
    with pytest.raises(Exception, match="does not exist"):
        table.upsert_files(session, folder, files, CommitInfo.of_batch("q", "app", 4, source=4))
    # Both engines take turns at one table.
    changed = pa.table([[NOON], ["a"], [7]], schema=SCHEMA)
    table.upsert(changed, CommitInfo.of_batch("q", "app", 4, source=4))
    assert read(table.uri) == {**expected, (NOON, "a"): 7}


def test_a_driver_that_was_replaced_merges_nothing(spark: SparkSession, tmp_path: Path) -> None:
    def refuse() -> None:
        raise GroupOwnedError("Another host has the group.")

    table = DeltaBatchWriter(SPEC, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None, check_lease=refuse))
    files = write_files(str(tmp_path / "files"), {(NOON, "a"): 1})
    with pytest.raises(GroupOwnedError):
        table.upsert_files(
            spark.newSession(), str(tmp_path / "files"), files, CommitInfo.of_batch("q", "app", 0, source=0)
        )
    assert DeltaTable(table.uri).version() == 0


def test_the_hour_that_comes_twice_is_merged_into_and_not_doubled(spark: SparkSession, tmp_path: Path) -> None:
    """This process may run by the time of a place that sets its clocks back."""
    before, hour = os.environ.get("TZ"), datetime(2025, 10, 26, 0, 15, tzinfo=UTC)
    try:
        os.environ["TZ"] = "Europe/Berlin"
        time.tzset()
        table = DeltaBatchWriter(SPEC, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None))
        session = spark.newSession()
        for batch in range(2):
            moments = [hour + timedelta(minutes=15 * n) for n in range(10)]
            for first in (moments[:4], moments[4:]):
                folder = f"{tmp_path}/files/{batch}-{len(first)}"
                files = write_files(folder, {(moment, "a"): batch for moment in first})
                info = CommitInfo.of_batch("q", "app", 2 * batch + (len(first) == 6), source=0)
                table.upsert_files(session, folder, files, info)
        assert read(table.uri) == {(moment, "a"): 1 for moment in moments}
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()
