"""`platform.ledger` has each batch once, with the version of its own commit, whatever is committed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from platform_assets.checks.ledger_entries import read_all_entries
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import commit_metadata, create_table, open_table
from platform_assets.streaming.ingest.batch_ledger import PartitionEntry, build_batch_commit
from platform_assets.streaming.ledgers import platform_tables
from platform_assets.streaming.ledgers.platform_tables import HistoryWriter
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.platform import LEDGER
from platform_assets.topics.events import EVENTS, TOPIC

RECORDS = 10
STREAM = KafkaStream(TOPIC)


def commit_batch(uri: str, batch: int) -> None:
    """A batch whose records were all repeated: its commit has an account and no row."""
    read = OffsetRange("topic", 0, batch * RECORDS, (batch + 1) * RECORDS)
    entry = PartitionEntry(read, accepted=0, quarantined=0, deduplicated=RECORDS, erased=0, gaps=())
    info = build_batch_commit(STREAM.name, "app", PlannedBatch(batch, 1_000_000, (read,)), entries=[entry])
    nothing = DeltaTable(uri).schema().to_arrow()
    said = CommitProperties(custom_metadata=commit_metadata(info))
    write_deltalake(uri, pa.schema(nothing).empty_table(), mode="append", commit_properties=said)


def test_a_batch_that_is_committed_while_others_are_projected_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    uri = context.table_uri(EVENTS.name)
    create_table(uri, EVENTS)
    committed = 0

    def commit_next() -> None:
        nonlocal committed
        commit_batch(uri, committed)
        committed += 1

    def open_before_the_next(uri: str, storage_options: Mapping[str, str] | None = None) -> DeltaTable:
        opened = open_table(uri, storage_options)
        commit_next()
        return opened

    writer = HistoryWriter(context, [STREAM], STREAM.name)
    monkeypatch.setattr(platform_tables, "open_table", open_before_the_next)
    for _ in range(3):
        commit_next()
        writer.write([])
    rows = open_table(context.table_uri(LEDGER.name)).to_pyarrow_table().sort_by("batch_id").to_pylist()
    # The first commit made the table; the last batch came after it was opened.
    assert [(row["batch_id"], row["table_version"]) for row in rows] == [(n, n + 1) for n in range(committed - 1)]


def test_accounts_end_where_the_table_was_opened(tmp_path: Path) -> None:
    """A batch that comes later has its rows in tables that the check has not opened: it would be taken for lost."""
    uri = str(tmp_path / "events")
    create_table(uri, EVENTS)
    commit_batch(uri, 0)
    opened = open_table(uri)
    commit_batch(uri, 1)
    assert [entry.batch_id for entry in read_all_entries(STREAM.name, opened, None)] == [0]
