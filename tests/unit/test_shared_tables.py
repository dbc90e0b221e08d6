"""Groups share the platform's tables: none fails by what another one does to them, and nothing is written twice."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, open_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.engine.table_upkeep import TableUpkeep
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS

COMMITS = 60
GROUPS = ("shop", "orders", "clicks")


def build_context(root: Path) -> StreamContext:
    return StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None)


def build_late(query: str, *offsets: int) -> pa.Table:
    schema = build_arrow_schema(LATE_EVENTS)
    rows = [
        {**dict.fromkeys(schema.names), "query": query, "topic": query, "kafka_partition": 0, "kafka_offset": offset,
         "event_time": datetime(2026, 3, 1, tzinfo=UTC)}
        for offset in offsets
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema)


def append(table: DeltaBatchWriter, query: str, batch: int) -> bool:
    info = CommitInfo.of_batch(query, f"app/{query}", batch, source={"version": batch})
    return table.append(build_late(query, batch), info)


def make_old(uri: str) -> None:
    """Makes a checkpoint, and what lies before it older than any retention."""
    open_table(uri).create_checkpoint()
    long_ago = time.time() - 100 * 24 * 3600
    for entry in Path(uri, "_delta_log").iterdir():
        os.utime(entry, (long_ago, long_ago))


def count_commits(uri: str) -> int:
    return len(list(Path(uri, "_delta_log").glob("*.json")))


def test_a_batch_is_known_again_after_another_group_has_cleaned_the_log(tmp_path: Path) -> None:
    context = build_context(tmp_path)
    table = DeltaBatchWriter(LATE_EVENTS, context)
    assert append(table, "shop", 5)
    other = DeltaBatchWriter(LATE_EVENTS, context)
    for batch in range(3):
        append(other, "orders", batch)
    make_old(table.uri)
    open_table(table.uri).cleanup_metadata()
    assert count_commits(table.uri) == 1
    assert not append(DeltaBatchWriter(LATE_EVENTS, context), "shop", 5)
    assert len(table.read_arrow()) == 4


def test_groups_clean_one_log_at_once(tmp_path: Path) -> None:
    context, name = build_context(tmp_path), LATE_EVENTS.name
    uri = context.table_uri(name)
    create_table(uri, LATE_EVENTS, None, "interval 1 hours")
    table = DeltaBatchWriter(LATE_EVENTS, context)
    for batch in range(COMMITS):
        append(table, "shop", batch)
    make_old(uri)
    begin, upkeeps = threading.Barrier(len(GROUPS)), [TableUpkeep([], context) for _ in GROUPS]

    def clean(upkeep: TableUpkeep) -> None:
        upkeep._to_clean.add(name)
        opened = open_table(uri)
        begin.wait()
        upkeep._clean_log(name, opened)

    with ThreadPoolExecutor(len(GROUPS)) as pool:
        assert list(pool.map(clean, upkeeps)) == [None] * len(GROUPS)
    for upkeep in upkeeps:
        if name in upkeep._to_clean:
            upkeep._clean_log(name, open_table(uri))
        assert name not in upkeep._to_clean
    assert count_commits(uri) == 1
    assert open_table(uri).to_pyarrow_dataset().count_rows() == COMMITS


def test_accounts_of_several_groups_are_put_into_one_table_at_once(tmp_path: Path) -> None:
    context, begin = build_context(tmp_path), threading.Barrier(len(GROUPS))

    def write(query: str) -> None:
        begin.wait()  # the first of them makes the tables
        late, states = DeltaBatchWriter(LATE_EVENTS, context), DeltaWriter(COMPLETE_UNTIL, context)
        schema = build_arrow_schema(COMPLETE_UNTIL)
        for batch in range(10):
            append(late, query, batch)
            row = {**dict.fromkeys(schema.names), "query": query, "batch_id": batch}
            states.put(pa.Table.from_pylist([row], schema), "true", CommitInfo(CommitKind.COMPLETE_UNTIL))
            late.put(build_late(query, batch), f"t.query = '{query}'", CommitInfo(CommitKind.REPAIR, query))

    with ThreadPoolExecutor(len(GROUPS)) as pool:
        assert list(pool.map(write, GROUPS)) == [None] * len(GROUPS)
    states = open_table(context.table_uri(COMPLETE_UNTIL.name)).to_pyarrow_table()
    assert {row["query"]: row["batch_id"] for row in states.to_pylist()} == dict.fromkeys(GROUPS, 9)
    assert len(states) == len(GROUPS)
    late = open_table(context.table_uri(LATE_EVENTS.name)).to_pyarrow_table(columns=["query", "kafka_offset"])
    assert sorted(map(tuple, (row.values() for row in late.to_pylist()))) == sorted(
        (query, offset) for query in GROUPS for offset in range(10)
    )


def test_a_table_that_several_make_is_made_once(tmp_path: Path) -> None:
    for number in range(20):
        uri, begin = str(tmp_path / str(number)), threading.Barrier(4)

        def make(_: int, uri: str = uri, begin: threading.Barrier = begin) -> int:
            begin.wait()
            return create_table(uri, LATE_EVENTS).version()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(make, range(4))) == [0] * 4
