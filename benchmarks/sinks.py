"""How far a sink is behind its table, and what it costs, with rows at 2,000 a second: `make bench ARGS=sinks`.

A writer commits to a Delta table by delta-rs, as streams do: `append` once a second all rows of it, as silver.events;
`upsert` each ten seconds rows of open windows, into a table with a history. A sink in a process of its own follows
into a real Postgres (Debian's package postgresql). The lag of a version is the time from its commit to the moment at
which a reader of Postgres could see it. CPU is that of the sink's process and of its session in Postgres, in cores. At
the end the load of the whole table is timed, and the check `sink_parity`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from platform_assets.sinks.comparison import compare
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.sink_group import SinkGroup
from platform_assets.sinks.target import Target
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.revenue_by_category import STREAM as REVENUE
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.postgres_server import USER, running_postgres

ROWS_A_SECOND = 2_000
UPSERT_SECONDS = 10
# A day of windows, each 30 s, of six categories.
HISTORY_WINDOWS = 2_880
CATEGORIES = 6
OPEN_WINDOWS = 5
SCHEMA = "headrace"


def main() -> None:
    """Prints a line for each kind of writer, and the load's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--follow", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.follow:
        follow(*args.follow)
        return
    with running_postgres() as port, tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        url = f"postgresql://{USER}@127.0.0.1:{port}/{USER}"
        measure_lag("append", EVENTS, append_events, 1, url, Path(folder), args.minutes)
        measure_lag("upsert", REVENUE.main_table, upsert_windows, UPSERT_SECONDS, url, Path(folder), args.minutes)
        measure_load(EVENTS, url, Path(folder))


def follow(table: str, root: str, url: str, home: str) -> None:
    """The process with the sink, until it is ended."""
    settings = Settings.model_validate({"home": Path(home), "postgres_url": url, "postgres_tables": table})
    spec = {EVENTS.name: EVENTS, REVENUE.main_table.name: REVENUE.main_table}[table]
    SinkGroup([Target(spec, SCHEMA)], settings, LakehouseResource(root=root)).start()
    sys.stdin.read()


def append_events(table: DeltaTable, number: int) -> None:
    """One second's events, some hundred bytes each."""
    now, rows = datetime.now(UTC), ROWS_A_SECOND
    given = {
        "event_id": [str(uuid.uuid4()) for _ in range(rows)],
        "event_type": ["page_view"] * rows,
        "event_time": [now] * rows,
        "event_date": [now.date()] * rows,
        "user_id": [f"user-{n:07d}" for n in range(rows)],
        "session_id": [f"session-{number}-{n}" for n in range(rows)],
        "product_id": [f"product-{n % 500}" for n in range(rows)],
        "category": [f"category-{n % CATEGORIES}" for n in range(rows)],
        "ingested_at": [now] * rows,
        "kafka_partition": [n % 3 for n in range(rows)],
        "kafka_offset": [number * rows + n for n in range(rows)],
        "kafka_timestamp": [now] * rows,
    }
    write_deltalake(table, _fill(EVENTS, given, rows), mode="append")


def upsert_windows(table: DeltaTable, number: int) -> None:
    """The windows that are open, each with another revenue; the first call writes a day of them."""
    spec, begin = REVENUE.main_table, datetime(2026, 1, 1, tzinfo=UTC)
    last = HISTORY_WINDOWS + number
    windows = range(last) if number == 0 else range(last - OPEN_WINDOWS, last)
    rows = [(begin + timedelta(seconds=30 * window), category) for window in windows for category in range(CATEGORIES)]
    given = {
        "window_start": [start for start, _ in rows],
        "window_end": [start + timedelta(minutes=1) for start, _ in rows],
        "category": [f"category-{category}" for _, category in rows],
        "currency": ["EUR"] * len(rows),
    }
    data = _fill(spec, given, len(rows), float(number))
    if number == 0:
        write_deltalake(table, data, mode="append")
        return
    same = " and ".join(f"t.{name} = s.{name}" for name in spec.key)
    table.merge(data, same, "s", "t").when_matched_update_all().when_not_matched_insert_all().execute()


def _fill(spec: TableSpec, given: Mapping[str, Any], rows: int, number: float = 1.0) -> Any:
    """All columns of the table: what is given, and a number or a text in what is not."""
    columns = {}
    for field in build_arrow_schema(spec):
        values = given.get(field.name)
        if values is None and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            values = [number] * rows
        elif values is None and pa.types.is_string(field.type):
            values = ["some text"] * rows
        columns[field.name] = pa.nulls(rows, field.type) if values is None else pa.array(values).cast(field.type)
    return pa.table(columns, build_arrow_schema(spec))


def measure_lag(
    name: str,
    spec: TableSpec,
    write: Callable[[DeltaTable, int], None],
    seconds: int,
    url: str,
    folder: Path,
    minutes: float,
) -> None:
    """Writes for some minutes while a sink follows."""
    lakehouse = LakehouseResource(root=str(folder / "lakehouse"))
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write(table, 0)
    with _following(spec, lakehouse, url, folder) as host, closing(psycopg2.connect(url)) as reader:
        reader.autocommit = True
        _wait_for(lambda: _read_version(reader, spec) == table.version())
        before, began = _cpu_seconds(host), time.monotonic()
        lags, committed = list[float](), dict[int, float]()
        number, seen = 0, table.version()
        while time.monotonic() - began < minutes * 60 or committed:
            if time.monotonic() - began < minutes * 60 and time.monotonic() >= began + number * seconds:
                number += 1
                write(table, number)
                table.update_incremental()
                committed[table.version()] = time.monotonic()
            if (version := _read_version(reader, spec)) > seen:
                now, seen = time.monotonic(), version
                lags += [now - at for each, at in committed.items() if each <= version]
                committed = {each: at for each, at in committed.items() if each > version}
            time.sleep(0.01)
        wall, after = time.monotonic() - began, _cpu_seconds(host)
        memory = host.memory_info().rss / 1024 / 1024
    p50, p99 = statistics.median(lags), sorted(lags)[int(0.99 * len(lags))]
    print(
        f"{name} of {spec.name}, each {seconds} s: {len(lags)} versions in {wall:.0f} s; lag p50 {p50:.2f} s, p99 "
        f"{p99:.2f} s, most {max(lags):.2f} s; sink {(after[0] - before[0]) / wall:.3f} cores, {memory:.0f} MiB; "
        f"Postgres {(after[1] - before[1]) / wall:.3f} cores; load of the machine {psutil.getloadavg()[0]:.1f}"
    )


def measure_load(spec: TableSpec, url: str, folder: Path) -> None:
    """Loads the whole table anew, and has the check look at it."""
    lakehouse = LakehouseResource(root=str(folder / "lakehouse"))
    engine = DuckDBResource.from_settings(Settings(home=folder / "home"))
    target = Target(spec, SCHEMA)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            f"DROP TABLE {target.qualify()}; UPDATE {SCHEMA}.sinks SET version = NULL WHERE name = '{spec.name}'"
        )
    sink, began, used = Sink(target, url, lakehouse, engine), time.monotonic(), time.process_time()
    while sink.advance():
        pass
    loaded, used = time.monotonic() - began, time.process_time() - used
    sink.close()
    began = time.monotonic()
    found = compare(target, url, lakehouse, engine)
    assert found.breaches == () and found.rows
    checked = time.monotonic() - began
    print(
        f"load of {spec.name}: {found.rows:,} rows in {loaded:.1f} s, {found.rows / loaded:,.0f} rows/s, "
        f"{used:.1f} CPU-s of the sink; the check sink_parity: {checked:.1f} s, {found.rows / checked:,.0f} rows/s"
    )


@contextmanager
def _following(spec: TableSpec, lakehouse: LakehouseResource, url: str, folder: Path) -> Iterator[psutil.Process]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.sinks",
        "--follow",
        spec.name,
        lakehouse.root,
        url,
        str(folder / "home"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as host:
        try:
            yield psutil.Process(host.pid)
        finally:
            host.kill()


def _read_version(reader: psycopg2.extensions.connection, spec: TableSpec) -> int:
    with reader.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.sinks",))
        if cursor.fetchone() == (None,):
            return -1
        cursor.execute(f"SELECT version FROM {SCHEMA}.sinks WHERE name = %s", (spec.name,))
        row = cursor.fetchone()
    return -1 if row is None or row[0] is None else int(row[0])


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the sink has not loaded its table"
        time.sleep(0.05)


def _cpu_seconds(host: psutil.Process) -> tuple[float, float]:
    """CPU time of the sink's process, and of its session in Postgres."""
    used = sum(host.cpu_times()[:2])
    ports = {connection.laddr.port for connection in host.net_connections() if connection.status == "ESTABLISHED"}
    ends = tuple(f"({port})" for port in ports)
    servers = (
        process for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and any(end in " ".join(process.info["cmdline"]) for end in ends)
    )  # fmt: skip
    return used, sum(sum(process.cpu_times()[:2]) for process in servers)


if __name__ == "__main__":
    main()
