"""Rows that come in portions become one commit, once, however often and wherever the writing was cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.errors import GroupOwnedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.repair.late_pairs import MAX_PAIRS, split_evenly
from platform_assets.tables.spec import Column, TableSpec

SPEC = TableSpec("gold.numbers", "Numbers", "one number", ("n",), (Column("n", "bigint", "Number"),))
BATCH = CommitInfo.of_batch("q", "app", 0, source=0)


def open_table(root: Path, check_lease: Callable[[], None] | None = None) -> DeltaBatchWriter:
    context = StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None, check_lease=check_lease)
    return DeltaBatchWriter(SPEC, context)


def read_portions(fails_after: int = 9) -> Iterator[pa.RecordBatch]:
    for portion in range(4):
        if portion == fails_after:
            raise OSError("cut short")
        yield pa.record_batch({"n": [portion * 10, portion * 10 + 1]})


def test_a_batch_is_one_commit_and_is_not_written_again(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    table.overwrite(read_portions, 8, BATCH)
    table.overwrite(read_portions, 8, BATCH)
    found = DeltaTable(table.uri)
    assert found.version() == 1
    assert sorted(found.to_pyarrow_table()["n"].to_pylist()) == [0, 1, 10, 11, 20, 21, 30, 31]
    newest = table.find_commit(lambda info: info.batch == 0)
    assert newest is not None and (newest[1].rows, newest[1].source) == (8, 0)


def test_what_is_cut_short_leaves_nothing(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    with pytest.raises(Exception, match="cut short"):
        table.overwrite(lambda: read_portions(fails_after=2), 8, BATCH)
    assert DeltaTable(table.uri).version() == 0
    open_table(tmp_path).overwrite(read_portions, 8, BATCH)
    assert len(DeltaTable(table.uri).to_pyarrow_table()) == 8


def test_a_driver_that_was_replaced_writes_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise GroupOwnedError("Another host has the group.")

    with pytest.raises(GroupOwnedError):
        open_table(tmp_path, refuse).overwrite(read_portions, 8, BATCH)
    assert DeltaTable(open_table(tmp_path).uri).version() == 0


@pytest.mark.parametrize("events", [2, 3, 1000])
@pytest.mark.parametrize("pairs", [MAX_PAIRS + 1, 8_000_000])
def test_late_events_are_split_into_portions_that_keep_all_of_them(events: int, pairs: int) -> None:
    late = pa.table({"n": range(events)})
    portions = split_evenly(late, pairs)
    assert len(portions) == min(events, -(-2 * pairs // MAX_PAIRS))
    assert pa.concat_tables(portions).equals(late)
    assert all(len(portion) for portion in portions)
