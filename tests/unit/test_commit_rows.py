"""The rows of a commit's file, as a stream over the table reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.streaming.delta.commit_log import CommitLog

OLD = pa.table({"event_id": ["a", "b", "c"], "event_type": ["purchase", "page_view", "purchase"]})
NEW = pa.table({"event_id": ["d"], "event_type": ["purchase"], "currency": ["EUR"]})


@pytest.mark.parametrize("is_compacted", [False, True], ids=["as_written", "compacted"])
def test_a_column_that_came_later_is_null_in_the_files_before_it(tmp_path: Path, is_compacted: bool) -> None:
    write_deltalake(tmp_path, OLD.slice(0, 1))
    write_deltalake(tmp_path, OLD.slice(1), mode="append")
    if is_compacted:
        DeltaTable(tmp_path).optimize.compact()
    write_deltalake(tmp_path, NEW, mode="append", schema_mode="merge")
    log = CommitLog(str(tmp_path), "event_time", {})
    files, _ = log.read_table(log.newest_version())
    parts = [log.read_rows(file.path, ["currency", "event_id"], ["purchase"], "event_type") for file in files]
    rows = [row for part in parts for row in part.to_pylist()]
    assert sorted(rows, key=lambda row: str(row["event_id"])) == [
        {"currency": None, "event_id": "a"}, {"currency": None, "event_id": "c"}, {"currency": "EUR", "event_id": "d"}
    ]  # fmt: skip
