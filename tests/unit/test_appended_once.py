"""Rows under a transaction are there once, and two groups do not take each other's transactions for their own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.ledgers.platform_tables import HistoryWriter
from platform_assets.tables.platform import QUERY_PROGRESS


class Reports:
    """What Spark's query tells of its batches, of which only the form matters here."""

    def __init__(self, run: str) -> None:
        self.runId = run
        self._jsq = self
        self._texts: list[str] = []

    def recentProgress(self) -> list[SimpleNamespace]:  # noqa: N802 (Spark's name)
        return [SimpleNamespace(json=lambda text=text: text) for text in self._texts]

    def report(self, batch: int) -> None:
        report = {
            "name": "q", "id": "i", "runId": self.runId, "batchId": batch, "timestamp": "2026-06-10T12:00:00.000Z",
            "durationMs": {"triggerExecution": 1, "addBatch": 1}, "numInputRows": 1, "sources": [],
        }  # fmt: skip
        self._texts.append(json.dumps(report))


def test_the_same_version_of_a_transaction_is_appended_once(tmp_path: Path) -> None:
    rows = pa.table({"n": [1, 2]})
    write_deltalake(tmp_path, rows.slice(0, 0))
    for version in (0, 0, 1, 0):
        append_once(DeltaTable(tmp_path), rows, "app", version)
    assert DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist() == [1, 2, 1, 2]


def test_a_table_that_is_older_than_the_others_commit_is_looked_at_again(tmp_path: Path) -> None:
    rows = pa.table({"n": [1]})
    write_deltalake(tmp_path, rows.slice(0, 0))
    stale = DeltaTable(tmp_path)
    append_once(DeltaTable(tmp_path), rows, "app", 0)
    append_once(stale, rows, "app", 0)
    append_once(stale, rows, "other", 0)
    assert DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist() == [1, 1]


def test_two_groups_without_topics_keep_all_of_their_history(tmp_path: Path) -> None:
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    writers = [(HistoryWriter(context, [], name), Reports(f"run-{name}")) for name in ("a", "b")]
    for batch in range(3):
        for writer, query in writers:
            query.report(batch)
            writer.write([query])  # type: ignore[list-item]
    found = DeltaTable(context.table_uri(QUERY_PROGRESS.name)).to_pyarrow_table(columns=["run_id", "batch_id"])
    assert sorted(found.to_pylist(), key=str) == sorted(
        ({"run_id": f"run-{name}", "batch_id": batch} for name in ("a", "b") for batch in range(3)), key=str
    )
