"""How a backlog is cut into batches, and a batch into tasks; against files and a log on disk."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.types import StructType

from platform_assets.errors import LostCommitsError
from platform_assets.streaming.delta.commit_log import AppendedFile, CommitLog
from platform_assets.streaming.derive import commit_source
from platform_assets.streaming.derive.commit_source import (
    BEFORE_FIRST,
    BatchLimit,
    CommitReader,
    plan_commits,
    share_out,
)

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
FILES = st.lists(st.integers(0, 500_000), max_size=30).map(
    lambda rows: [AppendedFile(f"f{n}", count, None, None) for n, count in enumerate(rows)]
)


@given(FILES, st.integers(1, 16))
def test_each_part_of_each_file_is_in_one_task(files: list[AppendedFile], max_tasks: int) -> None:
    tasks = share_out(files, max_tasks)
    total = sum(file.rows for file in files)
    assert 1 <= len(tasks) <= max_tasks
    assert len(tasks) == 1 or total > 20_000 * (len(tasks) - 1)
    taken: Counter[str] = Counter()
    for path, number, shares in [share for task in tasks for share in task]:
        assert 0 <= number < shares
        taken[path] += Fraction(1, shares)  # type: ignore[assignment]
    assert taken == {file.path: 1 for file in files}
    assert len({share for task in tasks for share in task}) == sum(map(len, tasks))
    # No share is larger than a task's, so that the fullest task has less than twice that.
    rows = {file.path: file.rows for file in files}
    sums = [sum(Fraction(rows[path], shares) for path, _, shares in task) for task in tasks]
    assert max(sums) <= 2 * Fraction(total, len(tasks))


def write(folder: Path, commits: list[int]) -> CommitLog:
    """A table of that many rows in each commit; an empty commit for none."""
    for number, rows in enumerate([0, *commits]):
        times = pa.array([NOON + timedelta(seconds=number)] * rows, pa.timestamp("us", tz="UTC"))
        write_deltalake(folder, pa.table({"event_time": times}), mode="append")
    return CommitLog(str(folder), "event_time", {})


@pytest.mark.parametrize(
    ("rows", "files", "version"),
    [(None, None, 4), (10, None, 2), (9, None, 1), (4, None, 1), (25, None, 3), (10**9, 1, 1), (10**9, 2, 2)],
)
def test_a_batch_has_as_many_commits_as_its_limits_allow(
    tmp_path: Path, rows: int | None, files: int | None, version: int
) -> None:
    log = write(tmp_path, [5, 5, 15, 1])
    commits = [commit for n in range(1, 5) if (commit := log.read(n)) is not None]
    size = None if files is None else sum(commit.size_bytes for commit in commits[:files])
    start = {**BEFORE_FIRST, "version": 0}
    assert plan_commits(log, start, BatchLimit(rows, size))["version"] == version


def test_files_without_a_count_of_rows_are_read_in_batches_all_the_same(tmp_path: Path) -> None:
    """Another writer may leave statistics out."""
    log = write(tmp_path, [5] * 60)
    for path in (tmp_path / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for action in actions:
            action.get("add", {}).pop("stats", None)
        path.write_text("\n".join(map(json.dumps, actions)))
    one = log.read(1)
    assert one is not None and one.rows == 0
    start = {**BEFORE_FIRST, "version": 0}
    assert plan_commits(log, start, BatchLimit(10, 3 * one.size_bytes))["version"] == 3
    files, _ = log.read_table(60)
    assert len(files) == 60 and {file.rows for file in files} == {0}
    assert sum(map(len, share_out(files, 4))) == 60


def test_a_log_says_how_large_its_files_are(tmp_path: Path) -> None:
    log = write(tmp_path, [3])
    (file,) = log.read(1).files  # type: ignore[union-attr]
    assert (tmp_path / file.path).stat().st_size == file.size_bytes
    assert log.read_table(1)[0] == [file]
    assert {f.size_bytes for f in CommitLog(str(tmp_path), "event_time", {})._read_state(1)} == {file.size_bytes}


@pytest.mark.parametrize("groups", [0, 1, 3, 7])
@pytest.mark.parametrize("shares", [1, 2, 5])
def test_the_shares_of_a_file_are_its_rows(tmp_path: Path, groups: int, shares: int) -> None:
    rows = pa.table({"n": pa.array(range(groups * 2), pa.int64())})
    pq.write_table(rows, tmp_path / "f.parquet", row_group_size=2)
    log = CommitLog(str(tmp_path), "n", {})
    found = [
        number
        for share in range(shares)
        for part in log.read_groups("f.parquet", ["n"], share=(share, shares))
        for number in part["n"].to_pylist()
    ]
    assert found == rows["n"].to_pylist()
    assert log.read_rows("f.parquet", ["n"]) == rows


def test_a_commit_that_vanishes_under_a_running_query_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has cleaned the log; the query would see nothing new for ever."""
    write(tmp_path, [5])
    options = {
        "uri": str(tmp_path), "time_column": "event_time", "event_types": "[]", "type_column": "",
        "storage_options": "{}", "max_rows": "100", "max_bytes": "1000000", "max_tasks": "2",
        "distinct_seconds": "0",
    }  # fmt: skip
    reader = CommitReader(options, StructType().add("event_time", "timestamp").add("frontier", "timestamp"))
    limit = reader.getDefaultReadLimit()
    offset = reader.latestOffset(reader.initialOffset(), limit)
    assert reader.latestOffset(offset, limit) == offset and offset["version"] == 1
    write_deltalake(tmp_path, pa.table({"event_time": [NOON]}), mode="append")
    write_deltalake(tmp_path, pa.table({"event_time": [NOON]}), mode="append")
    (tmp_path / "_delta_log" / f"{2:020d}.json").unlink()
    assert reader.latestOffset(offset, limit) == offset, "it was looked a moment ago"
    monkeypatch.setattr(commit_source, "_SECONDS_BETWEEN_CHECKS", 0.0)
    with pytest.raises(LostCommitsError, match="no longer holds version 2"):
        reader.latestOffset(offset, limit)
