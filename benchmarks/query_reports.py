"""What Spark reports of the queries that run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.progress import is_batch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class BatchReport:
    """One micro-batch: how long it took, from its trigger to its end, and the rows in the query's state after it."""

    seconds: float
    state_rows: int


def read_last_reports(session: SparkSession) -> dict[str, dict[str, Any]]:
    """Spark's newest report of each active query, by its name; without queries that have none yet."""
    queries = session.streams.active
    return {query.name: json.loads(report.json) for query in queries if (report := query.lastProgress) is not None}


def read_newest_batches(session: SparkSession) -> dict[str, BatchReport]:
    """The last micro-batch of each query, by its name; without those whose last trigger found nothing."""
    found = {}
    for name, report in read_last_reports(session).items():
        if is_batch(report):
            rows = sum(state["numRowsTotal"] for state in report["stateOperators"])
            found[name] = BatchReport(report["durationMs"]["triggerExecution"] / 1000, rows)
    return found
