"""The platform's own tables: the ledger and the history of progress, rolled up from what is already recorded.

The commits of a stream's main table are the truth; `platform.ledger` is their projection, appended in bulk and itself
exactly once: each append carries, as Delta transaction, the version up to which commits have been projected.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import (
    build_arrow_schema,
    create_table,
    open_table,
    read_commit_infos,
)
from platform_assets.streaming.progress import is_batch, lag_of, read_progresses, rows_of, state_of
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.platform import ALERT_POSITIONS, ALERTS, AUDIT_LOG, LEDGER, QUERY_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext


def name_projection(query: str) -> str:
    """The Delta transaction of `platform.ledger` that says up to which version the query's commits are in it."""
    return f"headrace/ledger/{query}"


class HistoryWriter:
    """Appends to the platform tables. Used from one thread at a time."""

    def __init__(self, context: StreamContext, streams: Iterable[KafkaStream], first_query: str) -> None:
        self._context = context
        self._ledger, self._progress = (
            create_table(context.table_uri(spec.name), spec, context.storage_options)
            for spec in (LEDGER, QUERY_PROGRESS)
        )
        # Empty until somebody changes something by hand, or watches for alerts: who looks for them finds that, and not
        # that they are missing.
        for spec in (AUDIT_LOG, ALERTS, ALERT_POSITIONS):
            create_table(context.table_uri(spec.name), spec, context.storage_options)
        self._sources = [(stream.name, context.table_uri(stream.main_table.name)) for stream in streams]
        # Each query is of one group, and two groups write this table at the same time.
        self._progress_app = f"headrace/progress/{first_query}"
        self._written: dict[str, int] = {}

    def write(self, queries: list[StreamingQuery]) -> None:
        """Projects all commits and progress since the last call. A crash between loses no ledger row."""
        for name, uri in self._sources:
            self._project_ledger(name, uri)
        self._append_progress(queries)

    def _project_ledger(self, query: str, uri: str) -> None:
        import pyarrow as pa

        app = name_projection(query)
        source = open_table(uri, self._context.storage_options)
        self._ledger.update_incremental()
        projected = self._ledger.transaction_version(app)
        unseen = source.version() - (-1 if projected is None else projected)
        if unseen <= 0:
            return
        commits = reversed(read_commit_infos(source, unseen))
        rows = [row for version, info in commits for row in ledger_rows(version, info)]
        if rows:
            append_once(self._ledger, pa.Table.from_pylist(rows, build_arrow_schema(LEDGER)), app, source.version())

    def _append_progress(self, queries: list[StreamingQuery]) -> None:
        import pyarrow as pa

        rows = []
        for query in queries:
            run_id = str(query.runId)
            reports = [r for r in read_progresses(query) if is_batch(r)]
            fresh = [r for r in reports if r["batchId"] > self._written.get(run_id, -1)]
            rows += [_progress_row(report) for report in fresh]
            if fresh:
                self._written[run_id] = fresh[-1]["batchId"]
        if rows:
            self._progress.update_incremental()
            before = self._progress.transaction_version(self._progress_app)
            data = pa.Table.from_pylist(rows, build_arrow_schema(QUERY_PROGRESS))
            append_once(self._progress, data, self._progress_app, 0 if before is None else before + 1)


def ledger_rows(version: int, info: CommitInfo) -> list[dict[str, Any]]:
    """Rows of `platform.ledger` from one commit: none but for a batch over Kafka."""
    if not info.partitions:
        return []
    assert info.arrival_micros is not None  # each batch over Kafka has it
    arrived_at = datetime.fromtimestamp(info.arrival_micros / 1e6, UTC)
    return [
        {
            **entry,
            "gaps": json.dumps(entry["gaps"]),
            "query": info.query,
            "txn_app_id": info.app,
            "batch_id": info.batch,
            "table_version": version,
            "arrived_at": arrived_at,
            "is_compacted": info.is_compacted,
        }
        for entry in info.partitions
    ]


def _progress_row(report: dict[str, Any]) -> dict[str, Any]:
    state_rows, state_bytes = state_of(report) or (0, 0)
    watermark = report.get("eventTime", {}).get("watermark")
    return {
        "query": report["name"],
        "query_id": report["id"],
        "run_id": report["runId"],
        "batch_id": report["batchId"],
        "started_at": datetime.fromisoformat(report["timestamp"]),
        "rows_in": rows_of(report),
        "duration_ms": report["durationMs"].get("triggerExecution"),
        "durations": json.dumps(report["durationMs"]),
        "lag_records": lag_of(report),
        "watermark": None if watermark is None else datetime.fromisoformat(watermark),
        "state_rows": state_rows,
        "state_bytes": state_bytes,
    }
