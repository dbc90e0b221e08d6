"""What is written into a table while a query writes its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.tables.spec import Column, TableSpec

SPEC = TableSpec(
    "gold.counts", "Counts", "a user and a page", ("user", "page"),
    (Column("user", "string", "Who"), Column("page", "string", "What"), Column("n", "bigint", "How often")),
)  # fmt: skip
REPAIR = CommitInfo(CommitKind.REPAIR, "counts")


def as_table(*rows: tuple[str | None, str | None, int]) -> pa.Table:
    named = [dict(zip(("user", "page", "n"), row, strict=True)) for row in rows]
    return pa.Table.from_pylist(named, build_arrow_schema(SPEC))


def read(table: DeltaReader) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.read_arrow().to_pylist()), key=repr)


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)


def test_rows_are_put_in_the_place_of_those_of_the_same_key(context: StreamContext) -> None:
    table = DeltaWriter(SPEC, context)
    table.put(as_table(("a", "x", 1), ("a", None, 2)), "true", REPAIR)
    table.put(as_table(("a", None, 3), ("b", "x", 4)), "t.user in ('a', 'b')", REPAIR)
    assert read(table) == [("a", "x", 1), ("a", None, 3), ("b", "x", 4)]
    assert table.version == 2


def test_to_put_no_rows_changes_none(context: StreamContext) -> None:
    table = DeltaWriter(SPEC, context)
    table.put(as_table(("a", "x", 1)), "true", REPAIR)
    for nothing in (as_table(("a", "x", 1)).slice(0, 0), as_table(), build_arrow_schema(SPEC).empty_table()):
        table.put(nothing, "true", REPAIR)
    assert read(table) == [("a", "x", 1)]


def test_stale_rows_go_in_the_same_commit(context: StreamContext) -> None:
    table = DeltaWriter(SPEC, context)
    table.put(as_table(("a", "x", 1), ("b", "x", 2), ("c", "x", 3)), "true", REPAIR)
    table.replace(as_table(("a", "x", 9)), as_table(("b", "x", 2)), "true", REPAIR)
    assert read(table) == [("a", "x", 9), ("c", "x", 3)]
    assert table.version == 2


def test_a_reader_makes_the_table_and_sees_what_others_write(context: StreamContext) -> None:
    reader = DeltaReader(SPEC, context)
    assert reader.is_empty()
    DeltaWriter(SPEC, context).put(as_table(("a", "x", 1)), "true", REPAIR)
    assert read(reader) == [("a", "x", 1)]
    assert reader.find_commit(lambda info: info.kind is CommitKind.REPAIR) == (1, REPAIR)
