"""What a task of a derived stream's batch sends: few rows as they are, more as files; nobody's who is forgotten."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.streaming.arrow_messages import unpack
from platform_assets.streaming.delta.portion_files import NewFile, TableFolder
from platform_assets.streaming.derive.batch_results import BatchResults, ResultOrder, read_files, write_results
from platform_assets.streaming.register.forgotten_names import ForgottenNames, hash_user
from platform_assets.streaming.result_span import ResultSpan

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
UTC_MICROS = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([("user_id", pa.string()), ("start", UTC_MICROS), ("end", UTC_MICROS), ("day", pa.date32())])
SPAN = ResultSpan("start", "end", timedelta(0), timedelta(minutes=30), by_user=True, longest=timedelta(days=1))
FORGOTTEN = ForgottenNames("5a17", {hash_user("u3", "5a17"): 2})
Row = tuple[int, int, int]
"""User, minutes from noon to the start, minutes to the end."""


def build(rows: list[Row]) -> pa.Table:
    starts = [NOON + timedelta(minutes=start) for _, start, _ in rows]
    ends = [start + timedelta(minutes=row[2]) for start, row in zip(starts, rows, strict=True)]
    return pa.table([[f"u{row[0]}" for row in rows], starts, ends, [start.date() for start in starts]], schema=SCHEMA)


def run(root: Path, rows: list[Row], few_rows: int, few_bytes: int = 10**9) -> BatchResults:
    folder = TableFolder(str(root), SCHEMA, 4, ("day",), frozenset({"start"}))
    order = ResultOrder(folder, SPAN, FORGOTTEN, few_rows, few_bytes)
    (sent,) = write_results(order, build(rows).to_batches(max_chunksize=3)).to_pylist()
    files = tuple(msgspec.json.decode(sent["files"], type=list[NewFile]))
    return BatchResults(unpack(sent["rows"]), unpack(sent["long"]), files)


def list_rows(root: Path, results: BatchResults) -> list[tuple[str, datetime, datetime, date]]:
    folder = TableFolder(str(root), SCHEMA, 4, ("day",))
    tables = [*([] if results.rows is None else [results.rows]), *read_files(folder, results.files)]
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4000), st.integers(0, 3000)), max_size=20), st.integers(0, 9)
)
def test_every_row_but_the_forgotten_and_the_long_is_sent_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], few: int
) -> None:
    root = tmp_path_factory.mktemp("table")
    known = [row for row in rows if row[0] != 3]
    short = [row for row in known if row[2] <= 24 * 60]
    results = run(root, rows, few)
    assert list_rows(root, results) == sorted(tuple(row.values()) for row in build(short).to_pylist())
    assert results.count == len(short)
    assert bool(results.files) == (len(short) > few)
    assert results.rows is None or not results.files
    ends = [] if results.long is None else results.long["event_time"].to_pylist()
    expected = build([row for row in known if row not in short])
    assert sorted(ends) == sorted([*expected["start"].to_pylist(), *expected["end"].to_pylist()])

    whole = results.put_into_files(TableFolder(str(root), SCHEMA, 4, ("day",)))
    assert whole.rows is None
    assert list_rows(root, whole) == list_rows(root, results)


def test_wide_rows_are_few_by_their_size(tmp_path: Path) -> None:
    rows = [(1, n, 1) for n in range(20)]
    assert run(tmp_path, rows, 1000).files == ()
    (file,) = run(tmp_path, rows, 1000, few_bytes=100).files
    assert (file.rows, file.partition) == (20, {"day": "2024-02-29"})
    assert (tmp_path / file.path).stat().st_size == file.size_bytes
