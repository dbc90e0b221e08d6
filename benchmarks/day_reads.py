"""What a day's report reads of `gold.view_to_purchase`: rows in the order of time, or in a partition for each day.

Forty days of pairs are written as the stream writes them, a commit each quarter of an hour, one row in fifty late, and
compacted as the group does. Counted is what a reader of one day can't leave out by the log: files, and megabytes as
parts of the day's own. Run: `make bench ARGS=day_reads` (five minutes).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.engine.table_upkeep import COMMITS_OF_ONE_CHECKPOINT, COMMITS_OF_ONE_COMPACTION, compact
from platform_assets.streams.view_to_purchase import MAX_LAG, VIEW_TO_PURCHASE
from platform_assets.tables.spec import Column, TableSpec

DAYS, COMMITS_OF_ONE_DAY, ROWS_OF_ONE_COMMIT = 40, 96, 2_000
LATE_EVERY, LATE = 50, timedelta(minutes=40)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BY_DAY = replace(
    VIEW_TO_PURCHASE,
    columns=(*VIEW_TO_PURCHASE.columns, Column("view_date", "date", "UTC day of view_time")),
    partition_columns=("view_date",),
)


def main() -> None:
    """Prints a row for each layout."""
    print("| layout | commit, median | live files | MB | a day: files | MB, times its own | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, spec in (("in the order of time (as it is)", VIEW_TO_PURCHASE), ("a partition a day", BY_DAY)):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
            seconds = _write(root, spec)
            print(f"| {name} | {statistics.median(seconds) * 1000:.0f} ms | {_measure(root, spec)} |", flush=True)


def _write(root: str, spec: TableSpec) -> list[float]:
    """Returns what each commit took."""
    table = DeltaBatchWriter(spec, StreamContext(root, {}, "earliest", 1, 1.0, 1, None))
    rng, taken = np.random.default_rng(7), []
    for batch in range(DAYS * COMMITS_OF_ONE_DAY):
        rows = _build_rows(rng, BEGIN + batch * (DAY / COMMITS_OF_ONE_DAY))
        began = time.perf_counter()
        table.append(rows, CommitInfo.of_batch("view_to_purchase", "benchmark", batch))
        taken.append(time.perf_counter() - began)
        if (batch + 1) % COMMITS_OF_ONE_CHECKPOINT == 0:
            DeltaTable(table.uri).create_checkpoint()
        if (batch + 1) % COMMITS_OF_ONE_COMPACTION == 0:
            compact(DeltaTable(table.uri))
    return taken


def _build_rows(rng: np.random.Generator, at: datetime) -> pa.Table:
    count = ROWS_OF_ONE_COMMIT
    micros = round(at.timestamp() * 1e6) + rng.integers(
        0, DAY // timedelta(microseconds=1) // COMMITS_OF_ONE_DAY, count
    )
    micros[::LATE_EVERY] -= LATE // timedelta(microseconds=1)
    times = pa.array(micros).cast(pa.timestamp("us", tz="UTC"))
    lag = pa.array(rng.integers(1, MAX_LAG // timedelta(microseconds=1), count)).cast(pa.duration("us"))
    ids = [pa.array([f"{number:016x}" for number in rng.integers(0, 2**60, count)]) for _ in range(2)]
    return pa.table(
        {
            "view_event_id": ids[0],
            "purchase_event_id": ids[1],
            "user_id": pa.array([f"user-{number:07}" for number in rng.integers(0, 20_000, count)]),
            "product_id": pa.array([f"product-{number:05}" for number in rng.integers(0, 2_000, count)]),
            "view_time": times,
            "purchase_time": pc.add(times, lag),
            "time_to_purchase_seconds": rng.random(count),
            "device_type": pa.repeat("mobile", count),
            "revenue": rng.random(count),
            "view_date": times.cast(pa.date32(), safe=False),
        }
    )


def _measure(root: str, spec: TableSpec) -> str:
    table = DeltaTable(f"{root}/gold/view_to_purchase")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    total = sum(action["size_bytes"] for action in actions)
    files, parts, seconds = [], [], []
    for number in range(1, DAYS):
        start, end = BEGIN + number * DAY, BEGIN + (number + 1) * DAY
        read = [a for a in actions if _has(a, start, end)]
        files.append(len(read))
        parts.append(sum(a["size_bytes"] for a in read) / (total / DAYS))
        days = pc.field("view_date") == start.date() if spec is BY_DAY else None
        inside = (pc.field("view_time") >= start) & (pc.field("view_time") < end)
        began = time.perf_counter()
        table.to_pyarrow_dataset().to_table(filter=inside if days is None else days & inside)
        seconds.append(time.perf_counter() - began)
    return (
        f"{len(actions)} | {total / 1e6:.0f} | {statistics.mean(files):.1f} (at most {max(files)}) | "
        f"{statistics.mean(parts):.1f} (at most {max(parts):.1f}) | {statistics.median(seconds):.2f}"
    )


def _has(action: dict[str, object], start: datetime, end: datetime) -> bool:
    """Whether a file can't be left out by a reader of the views of [start, end)."""
    if (day := action.get("partition.view_date")) is not None:
        return day == start.date()
    low, high = action["min.view_time"], action["max.view_time"]
    assert isinstance(low, datetime) and isinstance(high, datetime)
    return low.replace(tzinfo=UTC) < end and high.replace(tzinfo=UTC) >= start


if __name__ == "__main__":
    main()
