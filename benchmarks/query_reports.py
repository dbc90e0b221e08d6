"""What Spark reports of the queries that run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.streaming.progress import is_batch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class BatchReport:
    """One micro-batch: how long it took, from its trigger to its end, and the rows in the query's state after it."""

    seconds: float
    state_rows: int


def read_newest_batches(session: SparkSession) -> dict[str, BatchReport]:
    """The last micro-batch of each query, by its name; without those whose last trigger found nothing."""
    found = {}
    for query in session.streams.active:
        progress = query.lastProgress
        report = None if progress is None else json.loads(progress.json)
        if report is not None and is_batch(report):
            rows = sum(state["numRowsTotal"] for state in report["stateOperators"])
            found[report["name"]] = BatchReport(report["durationMs"]["triggerExecution"] / 1000, rows)
    return found
