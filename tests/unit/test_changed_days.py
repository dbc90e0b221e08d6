"""Which days a table's log says have changed: rows that came or went, not files that were rewritten."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.changed_days import ChangedDays, find_changed_days, read_changed_since
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.tables.platform import CHANGED_DAYS
from platform_assets.tables.spec import Column, TableSpec

SPEC = TableSpec(
    "gold.t", "t", "t", ("day", "n"), (Column("day", "date", "d"), Column("n", "bigint", "n")), ("day",)
)  # fmt: skip
MONDAY, TUESDAY, WEDNESDAY = date(2024, 2, 26), date(2024, 2, 27), date(2024, 2, 28)


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)


@pytest.fixture
def table(context: StreamContext) -> DeltaTable:
    return create_table(context.table_uri(SPEC.name), SPEC)


def append(table: DeltaTable, *days: date) -> None:
    rows = pa.table({"day": pa.array(days, pa.date32()), "n": pa.array(range(len(days)), pa.int64())})
    write_deltalake(table, rows, mode="append")


def log_of(table: DeltaTable, context: StreamContext) -> CommitLog:
    return CommitLog(context.table_uri(SPEC.name), "", {})


def test_appends_and_deletions_change_their_days_and_compaction_none(table: DeltaTable, context: StreamContext) -> None:
    append(table, MONDAY, TUESDAY)  # version 1
    append(table, TUESDAY)  # 2
    table.optimize.compact()  # 3
    assert table.version() == 3
    table.delete("n = 0 and day = '2024-02-26'")  # 4
    log = log_of(table, context)
    assert find_changed_days(log, "day", 0, 4) == {MONDAY: 4, TUESDAY: 2}
    assert find_changed_days(log, "day", 2, 3) == {}
    assert find_changed_days(log, "day", 3, 4) == {MONDAY: 4}
    assert find_changed_days(log, "day", 3, 5) is None


def rows(context: StreamContext) -> list[dict[str, object]]:
    found: list[dict[str, object]] = DeltaTable(context.table_uri(CHANGED_DAYS.name)).to_pyarrow_table().to_pylist()
    return found


def test_what_was_written_and_the_rest_of_the_log_tell_together(table: DeltaTable, context: StreamContext) -> None:
    append(table, MONDAY)
    ChangedDays([SPEC], context).write()
    append(table, TUESDAY)
    changed = ChangedDays([SPEC], context)  # after a crash
    changed.write()
    changed.write()
    append(table, WEDNESDAY)
    log, until = log_of(table, context), table.version()
    assert until == 3
    assert {(row["day"], row["version"]) for row in rows(context)} == {(None, 2), (MONDAY, 1), (TUESDAY, 2)}
    for since, expected in ((3, set()), (2, {WEDNESDAY}), (1, {TUESDAY, WEDNESDAY}), (0, {MONDAY, TUESDAY, WEDNESDAY})):
        assert read_changed_since(rows(context), log, SPEC, since, until) == expected
        # Nothing was written yet: the log alone tells the same.
        assert read_changed_since([], log, SPEC, since, until) == expected


def test_a_log_that_no_longer_tells_makes_every_day_a_changed_one(table: DeltaTable, context: StreamContext) -> None:
    append(table, MONDAY)
    ChangedDays([SPEC], context).write()
    append(table, TUESDAY)
    append(table, TUESDAY)
    log = Path(context.table_uri(SPEC.name), "_delta_log")
    table.create_checkpoint()
    (log / f"{2:020d}.json").unlink()
    assert read_changed_since(rows(context), log_of(table, context), SPEC, 1, 3) is None
    ChangedDays([SPEC], context).write()
    assert {(row["day"], row["version"]) for row in rows(context)} == {(None, 3), (MONDAY, 3), (TUESDAY, 3)}
    assert read_changed_since(rows(context), log_of(table, context), SPEC, 1, 3) == {MONDAY, TUESDAY}
