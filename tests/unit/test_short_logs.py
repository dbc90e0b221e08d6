"""The state of a table with a short log, added up here, is the one that delta-rs reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.streaming.delta.commit_log import CommitLog

MONDAY = datetime(2024, 2, 26, tzinfo=UTC)


def append(uri: Path, hour: int) -> None:
    times = [MONDAY + timedelta(hours=hour, milliseconds=n) for n in range(3)]
    write_deltalake(uri, pa.table({"at": pa.array(times, pa.timestamp("us", tz="UTC")), "n": [1, 2, 3]}), mode="append")


@pytest.fixture
def table(tmp_path: Path) -> DeltaTable:
    """Appended to out of order, rewritten, deleted from."""
    for hour in (5, 1, 3):
        append(tmp_path, hour)
    table = DeltaTable(tmp_path)
    table.delete("n = 2 and at < '2024-02-26T02:00:00Z'")
    append(tmp_path, 2)
    table.update_incremental()
    table.optimize.compact()
    append(tmp_path, 4)
    return DeltaTable(tmp_path)


def test_a_short_log_adds_up_to_what_delta_rs_reads(table: DeltaTable) -> None:
    log = CommitLog(table.table_uri, "at", {})
    assert log.newest_version() == table.version() == 6
    for version in range(7):
        added_up = log._add_up(version)
        assert added_up is not None
        assert sorted(added_up, key=str) == sorted(log._read_state(version), key=str)
        assert log.read_table(version)[0] == sorted(added_up, key=lambda file: (file.from_micros or 0, file.path))


def test_a_log_that_was_cut_off_is_read_from_its_checkpoint(table: DeltaTable) -> None:
    table.create_checkpoint()
    root = Path(table.table_uri.removeprefix("file://"))
    (root / "_delta_log" / f"{0:020d}.json").unlink()
    log = CommitLog(table.table_uri, "at", {})
    assert log._add_up(6) is None
    assert [file.rows for file in log.read_table(6)[0]] == [11, 3]
