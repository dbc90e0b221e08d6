"""What the live page costs and how far it is behind: a shop of 2,000 events/s, and 0, 1 and 50 viewers over HTTP.

A process writes as the streams do: `silver.events` each second, upserts of the windows each ten, heartbeats each two.
`headrace page` is another, whose CPU is counted; the viewers are plain clients in this one. How far a viewer is behind
is the time from the moment a commit is there to the event that shows it. Run: `make bench ARGS=live_page` (five
minutes).
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.scrape import build_report, give_verdicts
from jobs.platform.run_in_process import load_check_keys
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.lease import write_heartbeat
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.conversion_funnel import CONVERSION_FUNNEL
from platform_assets.streams.revenue_by_category import REVENUE_BY_CATEGORY
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.platform import LEDGER
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from resources.ports import free_port
from resources.settings import Settings

# Each commit has this many purchases of this product, more than of any other: what the page shows of it says which
# commits it has read.
MARK, MARKS = "mark", 100
_SHOWN = re.compile(r"<bdi>mark</bdi>.*?<td class=\"number\">([\d,]+)</td>", re.DOTALL)
HISTORY = 200
SETTLE_SECONDS = 5.0


def main() -> None:
    """Prints a line for each number of viewers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, nargs="*", default=[0, 1, 50])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2000, help="events a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        settings = Settings(home=Path(home), lakehouse=f"{home}/lake", kafka_bootstrap_servers="127.0.0.1:9")
        os.environ |= {"DAGSTER_HOME": str(ensure_dagster_home(settings))}
        with dg.DagsterInstance.get() as instance:
            give_verdicts(instance, load_check_keys())
        commits, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        writer = context.Process(target=write, args=(settings.lakehouse, args.rate, theirs), daemon=True)
        writer.start()
        theirs.close()  # a writer that dies ends what waits for it
        commits.recv()  # the history is written
        with running_page(settings) as (process, port):
            measure_loads(port)
            for count in args.viewers:
                measure(process, port, commits, count, args.seconds)
        writer.terminate()


@contextmanager
def running_page(settings: Settings) -> Iterator[tuple[psutil.Process, int]]:
    """`headrace page` of this lakehouse, once it has read it."""
    port = free_port()
    own = {
        "HEADRACE_HOME": str(settings.home),
        "HEADRACE_LAKEHOUSE": settings.lakehouse,
        "HEADRACE_PAGE_PORT": str(port),
    }
    page = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "page"], env={**os.environ, **own}, stdout=subprocess.PIPE
    )
    try:
        assert page.stdout is not None
        page.stdout.readline()
        began = time.monotonic()
        first = Viewer(port)
        while not first.marks:
            time.sleep(0.01)
        print(f"the first numbers are there {time.monotonic() - began:.1f} s after the first viewer", flush=True)
        while "checks pass" not in first.panels.get("attention", ""):
            time.sleep(0.1)
        first.close()
        yield psutil.Process(page.pid), port
    finally:
        page.terminate()
        page.wait()


class Viewer:
    """Follows the page in a thread; `marks` are the times at which it has seen so many purchases of the product."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", "/live")
        self._answer = self._connection.getresponse()
        self.panels: dict[str, str] = {}
        self.marks: dict[int, float] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._is_closed:
            line = self._answer.readline()
            if line.startswith(b"data: "):
                now = time.time()
                self.panels |= json.loads(line.removeprefix(b"data: "))["panels"]
                if (found := _SHOWN.search(self.panels.get("top_products", ""))) is not None:
                    self.marks.setdefault(int(found[1].replace(",", "")), now)

    def close(self) -> None:
        """Leaves, with the next event."""
        self._is_closed = True
        self._thread.join()
        self._connection.close()


def measure_loads(port: int) -> None:
    """The page with its own files, one after the other by one connection, and its size."""
    millis, size = [], 0
    for _ in range(30):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        began, size = time.perf_counter(), 0
        for path in ("/", "/page.css", "/page.js"):
            connection.request("GET", path)
            size += len(connection.getresponse().read())
        millis.append((time.perf_counter() - began) * 1000)
        connection.close()
    quantiles = statistics.quantiles(millis, n=100)
    print(f"load: p50 {quantiles[49]:.0f} ms, p99 {quantiles[98]:.0f} ms; {size:,} bytes", flush=True)


def measure(process: psutil.Process, port: int, commits: Connection, count: int, seconds: float) -> None:
    """Lets this many viewers look for some seconds."""
    viewers = [Viewer(port) for _ in range(count)]
    time.sleep(SETTLE_SECONDS if count else 15.0)  # without a viewer the page is read for ten seconds more
    while commits.poll():
        commits.recv()
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    committed: dict[int, float] = {}
    while commits.poll():
        number, at = commits.recv()
        committed[number * MARKS] = at
    time.sleep(3.0)
    delays = sorted(
        min(at for seen, at in viewer.marks.items() if seen >= marks) - at_commit
        for viewer in viewers
        for marks, at_commit in committed.items()
        if max(viewer.marks, default=0) >= marks
    )
    text = "nobody looks"
    if delays:
        behind = statistics.quantiles(delays, n=100)
        text = f"behind {len(committed)} commits p50 {behind[49]:.2f} s, p99 {behind[98]:.2f} s"
    memory = process.memory_full_info().pss / 1024 / 1024
    print(f"{count:3} viewers: {cores:.3f} cores, {memory:.0f} MiB PSS; {text}", flush=True)
    for viewer in viewers:
        viewer.close()


def write(root: str, rate: int, commits: Connection) -> None:
    """Writes as the streams of a shop do, until it is ended; says when each commit of the events was there."""
    lakehouse, rng, number = LakehouseResource(root=root), np.random.default_rng(7), 0
    for spec in (EVENTS, REVENUE_BY_CATEGORY, CONVERSION_FUNNEL, SESSIONS, LEDGER):
        create_table(lakehouse.table_uri(spec.name), spec)
    for back in range(HISTORY, 0, -1):
        number += 1
        write_events(lakehouse, rng, rate, number, datetime.now(UTC) - timedelta(seconds=back))
    write_windows(lakehouse, rng, datetime.now(UTC))
    append(lakehouse, LEDGER, [{"query": "events", "batch_id": 1, "rows_in": 100, "accepted": 100, "quarantined": 0,
                                "deduplicated": 0, "arrived_at": datetime.now(UTC)}])  # fmt: skip
    commits.send(None)
    with dg.DagsterInstance.get() as instance:
        while True:
            began = time.monotonic()
            number += 1
            write_events(lakehouse, rng, rate, number, datetime.now(UTC))
            commits.send((number, time.time()))
            if number % 2 == 0:
                write_heartbeat(instance, "clickstream", build_report())
            if number % 10 == 0:
                write_windows(lakehouse, rng, datetime.now(UTC))
            time.sleep(max(0.0, began + 1.0 - time.monotonic()))


def write_events(lakehouse: LakehouseResource, rng: np.random.Generator, rate: int, number: int, now: datetime) -> None:
    """One commit of a second's events."""
    kinds = rng.choice(["page_view", "add_to_cart", "purchase"], rate, p=[0.75, 0.15, 0.1])
    products = np.char.add("p", rng.integers(0, 2000, rate).astype(str))
    kinds[:MARKS], products[:MARKS] = "purchase", MARK
    columns = {
        "event_id": np.char.add(f"{number}-", np.arange(rate).astype(str)),
        "event_type": kinds,
        "event_time": [now] * rate,
        "event_date": [now.date()] * rate,
        "user_id": np.char.add("u", rng.integers(0, 20_000, rate).astype(str)),
        "product_id": products,
        "product_name": products,
        "revenue": np.where(kinds == "purchase", rng.integers(500, 20_000, rate) / 100, 0.0),
        "currency": ["EUR"] * rate,
        "topic": ["events"] * rate,
        "kafka_partition": [0] * rate,
        "kafka_offset": np.arange(rate) + number * rate,
        "ingested_at": [now] * rate,
    }
    schema = build_arrow_schema(EVENTS)
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(rate, f.type) for f in schema]
    write_deltalake(lakehouse.table_uri(EVENTS.name), pa.Table.from_arrays(arrays, schema=schema), mode="append")


def write_windows(lakehouse: LakehouseResource, rng: np.random.Generator, now: datetime) -> None:
    """Upserts the open windows, and appends the sessions that have ended."""
    minute = now.replace(second=0, microsecond=0)
    revenue = [
        {"window_start": start, "window_end": start + timedelta(minutes=1), "category": f"c{category}",
         "currency": "EUR", "total_revenue": float(rng.integers(100, 9999)), "purchase_count": 20}
        for start in (minute - timedelta(seconds=30 * back) for back in range(4))
        for category in range(10)
    ]  # fmt: skip
    upsert(lakehouse, REVENUE_BY_CATEGORY, revenue)
    funnel = [
        {"window_start": start, "window_end": start + timedelta(minutes=5), "unique_visitors": 9000,
         "cart_users": 2000, "purchasers": 900}
        for start in (minute - timedelta(minutes=back) for back in range(5))
    ]  # fmt: skip
    upsert(lakehouse, CONVERSION_FUNNEL, funnel)
    sessions = [
        {"user_id": f"u{n}", "session_start": now, "session_end": now, "session_date": now.date(), "event_count": 5,
         "duration_seconds": 60.0, "purchase_count": n % 2, "unique_products": 2}
        for n in range(300)
    ]  # fmt: skip
    append(lakehouse, SESSIONS, sessions)


def append(lakehouse: LakehouseResource, spec: TableSpec, rows: Sequence[dict[str, object]]) -> None:
    """Appends rows to a table, in one commit."""
    write_deltalake(
        lakehouse.table_uri(spec.name), pa.Table.from_pylist(list(rows), build_arrow_schema(spec)), mode="append"
    )


def upsert(lakehouse: LakehouseResource, spec: TableSpec, rows: Sequence[dict[str, object]]) -> None:
    """Replaces rows by the table's key."""
    same = " AND ".join(f"t.{name} = s.{name}" for name in spec.key)
    merge = lakehouse.delta_table(spec.name).merge(
        pa.Table.from_pylist(list(rows), build_arrow_schema(spec)), same, source_alias="s", target_alias="t"
    )
    merge.when_matched_update_all().when_not_matched_insert_all().execute()


if __name__ == "__main__":
    main()
