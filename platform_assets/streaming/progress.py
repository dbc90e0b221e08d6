"""What a query has done so far, as plain values for heartbeats, metadata and `platform.query_progress`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from platform_assets.streaming.batch_totals import BatchTotals

if TYPE_CHECKING:
    from pyspark.sql.streaming import StreamingQuery

# Name of the observation, and in it the number of rows read: Spark's own counts a row once for each scan, and the mark.
INPUT = "input"
ROWS = "rows"

# As many as Spark keeps reports, and some that have none yet.
_COUNTS_KEPT = 200
_counted: dict[str, dict[int, tuple[int, int]]] = {}
_known_reports: WeakKeyDictionary[StreamingQuery, list[tuple[str, dict[str, Any]]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class SinkProgress:
    """How far a table in a database is: it is the Delta table at `version`, which is None before its first load ends.

    `rows` as of that version. Of a publisher: how far its topic is, and the records that it has sent. `behind_since`
    (ISO-8601, UTC) is when the oldest commit that is not applied was made; None: there is none. `trouble` says why it
    stands still; empty: it does not.
    """

    version: int | None
    rows: int
    behind_since: str | None
    trouble: str


@dataclass(frozen=True)
class AlertProgress:
    """How far an alert is, or a channel that tells of alerts.

    `open` alerts of its kind; `opened`, `closed` and `delivered` count since the host's start. The last is None of an
    alert, the others of a channel.
    `behind_since` (ISO-8601, UTC) and `trouble` as of `SinkProgress`.
    """

    open: int | None
    opened: int | None
    closed: int | None
    delivered: int | None
    behind_since: str | None
    trouble: str


@dataclass(frozen=True)
class QueryProgress:
    """One query's state. `batch_id` is the last committed batch, -1 for none; times are ISO-8601, UTC.

    `complete_until` as in `platform.complete_until`; None until that is known, and for a query over Kafka.
    `held_records` wait in Kafka behind an open transaction since `held_since`, if that is known, and are not among the
    `lag_records`, which can be read. `lag_records` is as the newest report has it, which may be a batch old;
    `unread_records` is what a look at Kafka has found since, and `unread_since` when the oldest of them was sent. That
    is None while all is read that was there at the look before.

    `rows_in`, `bytes_in` (values of Kafka's records), `verdicts` (records by what became of them), `totals` and
    `late_repaired` only rise, and begin at 0 with each host. `totals` is None for a relay: its batches are long by
    intent. `sink` is how far a sink is, which has batches of its own: transactions of its database. `alerts` is how far
    an alert or a channel is.
    """

    query: str
    query_id: str
    batch_id: int
    rows_in: int
    rows_per_second: float
    lag_records: int | None
    watermark: str | None
    table_versions: dict[str, int]
    last_commit_at: str | None
    busy: bool
    complete_until: str | None = None
    held_records: int = 0
    held_since: str | None = None
    bytes_in: int = 0
    totals: BatchTotals | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    unread_records: int | None = None
    unread_since: str | None = None
    state_rows: int | None = None
    state_bytes: int | None = None
    late_pending: int | None = None
    late_repaired: int = 0
    sink: SinkProgress | None = None
    alerts: AlertProgress | None = None


def read_progresses(query: StreamingQuery) -> list[dict[str, Any]]:
    """Spark's recent progress reports (up to 100), oldest first, as it writes them.

    Asked for each two seconds. PySpark fetches each report field by field, thousands of calls to the JVM, so the text
    is taken, and only of reports that have come since the last call.
    """
    found = query._jsq.recentProgress()
    known, fresh = _known_reports.get(query, []), []
    for index in range(len(found) - 1, -1, -1):
        text = found[index].json()
        if known and text == known[-1][0]:
            break
        fresh.append((text, json.loads(text)))
    reports = [*known, *reversed(fresh)][-len(found) :] if found else []
    _known_reports[query] = reports
    return [report for _, report in reports]


def lag_of(report: dict[str, Any]) -> int | None:
    """Records that Kafka holds and the query has not read; None for a source that has no such number."""
    lags = [
        sum(int(offset) - int(source["endOffset"].get(topic, {}).get(partition, 0)) for topic, partitions in
            source["latestOffset"].items() for partition, offset in partitions.items())
        for source in report["sources"]
        if source["description"].startswith("KafkaV2") and source.get("latestOffset") and source.get("endOffset")
    ]  # fmt: skip
    return sum(lags) if lags else None


def next_offsets_of(report: dict[str, Any]) -> dict[int, int] | None:
    """The offsets that the query reads next of its topic, by partition; None for another source than Kafka."""
    for source in report["sources"]:
        if source["description"].startswith("KafkaV2") and source.get("endOffset"):
            [partitions] = source["endOffset"].values()
            return {int(partition): int(offset) for partition, offset in partitions.items()}
    return None


def is_batch(report: dict[str, Any]) -> bool:
    """Whether the report is of a micro-batch that ran, not of a trigger that found nothing."""
    return "addBatch" in report["durationMs"]


def count_rows(query_id: str, batch_id: int, rows: int, value_bytes: int) -> None:
    """Says how much a batch has read, where the tasks that read it are no part of Spark's plan of it."""
    counted = _counted.setdefault(query_id, {})
    counted[batch_id] = rows, value_bytes
    for old in sorted(counted)[:-_COUNTS_KEPT]:
        del counted[old]


def rows_of(report: dict[str, Any]) -> int:
    """Rows that the micro-batch read. Spark's own number counts a row once for each scan, and marks."""
    observed = report.get("observedMetrics", {}).get(INPUT)
    if observed is not None:
        return int(observed[ROWS])
    rows, _ = _counted.get(report["id"], {}).get(report["batchId"], (int(report["numInputRows"]), 0))
    return rows


def bytes_of(report: dict[str, Any]) -> int:
    """Bytes of the values of the Kafka records that the micro-batch read; 0 for another source."""
    _, value_bytes = _counted.get(report["id"], {}).get(report["batchId"], (0, 0))
    return value_bytes


def state_of(report: dict[str, Any]) -> tuple[int, int] | None:
    """Rows and bytes of memory of all state stores after the micro-batch; None for a query that keeps no state."""
    states = report.get("stateOperators", [])
    if not states:
        return None
    return sum(state["numRowsTotal"] for state in states), sum(state["memoryUsedBytes"] for state in states)


def rate_of(report: dict[str, Any]) -> float:
    """Rows a second of the micro-batch's time."""
    millis = report["durationMs"].get("triggerExecution", 0)
    return rows_of(report) * 1_000 / millis if millis else 0.0
