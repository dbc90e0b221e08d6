"""The platform's own tables: the ledger and the history of progress, rolled up from what is already recorded.

The commits of a stream's main table are the truth; `platform.ledger` is their projection, appended in bulk and itself
exactly once: each append carries, as Delta transaction, the version up to which commits have been projected.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta_tables import read_commit_metadata, read_transaction_version, read_version
from platform_assets.streaming.progress import is_batch, lag_of, read_progresses
from platform_assets.streaming.specs import Column, KafkaSource, StreamSpec, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.streaming.context import StreamContext

LEDGER = TableSpec(
    name="platform.ledger",
    description="What each micro-batch did with every offset it read; the projection of the tables' commits.",
    grain="query x batch x topic partition",
    key=("query", "txn_app_id", "batch_id", "topic", "kafka_partition"),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("txn_app_id", "string", "Delta transaction name: the query and its checkpoint's generation"),
        Column("batch_id", "bigint", "Micro-batch"),
        Column("table_version", "bigint", "Version of the main table that the batch made"),
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("from_offset", "bigint", "First offset read"),
        Column("until_offset", "bigint", "First offset not read"),
        Column("rows_in", "bigint", "Records delivered"),
        Column("accepted", "bigint", "Rows in the main table"),
        Column("quarantined", "bigint", "Rows in quarantine"),
        Column("deduplicated", "bigint", "Rows taken out as duplicates"),
        Column("gaps", "string", "JSON: ranges [from, until) in which Kafka had no record"),
        Column("arrived_at", "timestamp", "The micro-batch's time"),
    ),
    statistics_columns=("batch_id", "kafka_partition", "from_offset", "until_offset"),
)

QUERY_PROGRESS = TableSpec(
    name="platform.query_progress",
    description="History of every query's micro-batches: rows, durations, lag, watermark, state.",
    grain="query run x micro-batch",
    key=("query", "run_id", "batch_id"),
    columns=(
        Column("query", "string", "The streaming query"),
        Column("query_id", "string", "Its checkpoint's generation"),
        Column("run_id", "string", "Spark's id of this start of the query"),
        Column("batch_id", "bigint", "Micro-batch"),
        Column("started_at", "timestamp", "When the micro-batch began"),
        Column("rows_in", "bigint", "Rows read; Spark counts a row once for each scan"),
        Column("duration_ms", "bigint", "Whole micro-batch"),
        Column("durations", "string", "JSON: milliseconds by phase"),
        Column("lag_records", "bigint", "Unread Kafka records at its end; null for other sources"),
        Column("watermark", "timestamp", "The query's watermark"),
        Column("state_rows", "bigint", "Rows in all state stores"),
        Column("state_bytes", "bigint", "Memory of all state stores"),
    ),
    statistics_columns=("started_at", "query", "batch_id"),
)


class HistoryWriter:
    """Appends to the platform tables. Used from one thread at a time."""

    def __init__(self, session: SparkSession, context: StreamContext, streams: tuple[StreamSpec, ...]) -> None:
        self._session = session
        self._ledger = context.table_uri(LEDGER.name)
        self._progress = context.table_uri(QUERY_PROGRESS.name)
        self._sources = [
            (stream.name, context.table_uri(stream.main_table.name))
            for stream in streams
            if isinstance(stream.source, KafkaSource)
        ]
        self._written: dict[str, int] = {}

    def write(self, queries: list[StreamingQuery]) -> None:
        """Projects all commits and progress since the last call. A crash between loses no ledger row."""
        for name, uri in self._sources:
            self._project_ledger(name, uri)
        self._append_progress(queries)

    def _project_ledger(self, query: str, uri: str) -> None:
        app = f"headrace/ledger/{query}"
        newest = read_version(self._session, uri)
        projected = read_transaction_version(self._session, self._ledger, app)
        rows: list[dict[str, Any]] = []
        for version in range(projected + 1, newest + 1):
            found = read_commit_metadata(self._session, uri, version)
            if found is not None:
                rows += ledger_rows(found, version)
        if rows:
            frame = self._session.createDataFrame(
                [(*(row[c.name] for c in LEDGER.columns[:-1]), row["arrival_micros"]) for row in rows],
                LEDGER.ddl.replace("`arrived_at` timestamp", "arrival_micros bigint"),
            ).selectExpr("* except (arrival_micros)", "timestamp_micros(arrival_micros) as arrived_at")
            frame.coalesce(1).write.format("delta").mode("append").options(txnAppId=app, txnVersion=str(newest)).save(
                self._ledger
            )

    def _append_progress(self, queries: list[StreamingQuery]) -> None:
        rows = []
        for query in queries:
            run_id = str(query.runId)
            reports = [r for r in read_progresses(query) if is_batch(r)]
            fresh = [r for r in reports if r["batchId"] > self._written.get(run_id, -1)]
            rows += [_progress_row(report) for report in fresh]
            if fresh:
                self._written[run_id] = fresh[-1]["batchId"]
        if rows:
            ddl = ", ".join(f"{c.name} {'string' if c.type == 'timestamp' else c.type}" for c in QUERY_PROGRESS.columns)
            times = {c.name for c in QUERY_PROGRESS.columns if c.type == "timestamp"}
            columns = [f"cast({c.name} as {c.type}) as {c.name}" if c.name in times else c.name
                       for c in QUERY_PROGRESS.columns]  # fmt: skip
            frame = self._session.createDataFrame(rows, ddl).selectExpr(*columns)
            frame.coalesce(1).write.format("delta").mode("append").save(self._progress)


def ledger_rows(metadata: dict[str, Any], table_version: int) -> list[dict[str, Any]]:
    """Rows of `platform.ledger` (with `arrival_micros` for `arrived_at`) from one commit's metadata."""
    return [
        {
            **entry,
            "gaps": json.dumps(entry["gaps"]),
            "query": metadata["query"],
            "txn_app_id": metadata["app"],
            "batch_id": metadata["batch"],
            "table_version": table_version,
            "arrival_micros": metadata["arrival_micros"],
        }
        for entry in metadata.get("partitions", [])
    ]


def _progress_row(report: dict[str, Any]) -> tuple[Any, ...]:
    states = report.get("stateOperators", [])
    return (
        report["name"],
        report["id"],
        report["runId"],
        report["batchId"],
        report["timestamp"],
        report["numInputRows"],
        report["durationMs"].get("triggerExecution"),
        json.dumps(report["durationMs"]),
        lag_of(report),
        report.get("eventTime", {}).get("watermark"),
        sum(state["numRowsTotal"] for state in states),
        sum(state["memoryUsedBytes"] for state in states),
    )
