"""A backfill of days with holes by the engine `spark`: Dagster makes a run of each range, and Spark starts once.

The daemon, its queue and its runs are real; each run is a process of its own, with its own Spark if it starts one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from deltalake import write_deltalake

from jobs.supervision.dagster_home import ensure_dagster_home, set_pool_limits
from platform_assets.reports import DAILY_REPORTS
from platform_assets.reports.asset_specs import CUSTOMERS_KEY, report_key
from platform_assets.reports.daily_page import DAILY_PAGE_KEY
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.report_sources import SHOP
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams
from platform_assets.streams.sessions import SESSIONS
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.short_lived_jvm import ENVIRONMENT
from tests.spark import backfill_location
from tests.spark.report_cases import event, read_rows, rounded, run_reports
from tests.spark.test_stale_days import close, versions

ROOT = Path(__file__).parents[2]
NOON = datetime(2024, 2, 1, 12, tzinfo=UTC)
# Three ranges: the last two of them so near to the end that what is open there is looked for.
DAYS = [NOON.date() + timedelta(days=n) for n in (0, 1, 4, 6)]
# What is waited for is a condition: only a hang may reach this, not three runs next to other programs.
LIMIT_SECONDS = 900.0


@pytest.fixture
def filled(tmp_path: Path) -> LakehouseResource:
    """Eight days of a shop, whose last one is final too; written without Spark, whose starts are counted."""
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    sent = [
        event(f"u{n % 3}", NOON + timedelta(days=n, minutes=m), kind, f"p{m % 2}", device_type="mobile")
        for n in range(8)
        for m, kind in enumerate(("page_view", "add_to_cart", "purchase"))
    ]
    rows = [
        {
            **e, "event_id": f"e{n}", "topic": "t", "kafka_partition": 0, "kafka_offset": n, "quantity": 1,
            "kafka_timestamp": e["event_time"], "ingested_at": e["event_time"], "event_date": e["event_time"].date(),
        }
        for n, e in enumerate(sent)
    ]  # fmt: skip
    events = pa.Table.from_pylist(rows, build_arrow_schema(EVENTS))
    write(lakehouse, EVENTS, events)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        for stream in select_derived(load_streams()):
            if stream.main_table in (SESSIONS, VIEW_TO_PURCHASE) and stream.rule is not None:
                write(lakehouse, stream.main_table, connection.sql(stream.rule).to_arrow_table())
    close(lakehouse, NOON.replace(hour=0) + timedelta(days=8) + SHOP.longest_open)
    return lakehouse


def write(lakehouse: LakehouseResource, spec: TableSpec, rows: pa.Table) -> None:
    schema = build_arrow_schema(spec)
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, rows.select(schema.names).cast(schema), mode="append")


@contextmanager
def daemon(lakehouse: LakehouseResource, home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's daemon over the reports alone, with the platform's own `dagster.yaml`, for the block."""
    dagster_home = ensure_dagster_home(Settings(home=home, kafka_bootstrap_servers=""))
    environment = {
        **os.environ, **ENVIRONMENT, "HEADRACE_HOME": str(home), "HEADRACE_LAKEHOUSE": lakehouse.root_uri,
        "DAGSTER_HOME": str(dagster_home),
    }  # fmt: skip
    command = [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-m", "tests.spark.backfill_location"]
    with (home / "daemon.log").open("ab") as log, dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        set_pool_limits(instance)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield instance
        finally:
            process.terminate()
            process.wait(60)


def ask_for(instance: dg.DagsterInstance, name: str, days: list[date]) -> dg.DagsterInstance:
    """What the UI does for a person who has chosen all reports and these days; waits for its end."""
    graph = backfill_location.defs.resolve_asset_graph()
    keys = [*(report_key(report) for report in DAILY_REPORTS), DAILY_PAGE_KEY, CUSTOMERS_KEY]
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=name, asset_graph=graph, partition_names=[str(day) for day in days], asset_selection=keys,
        backfill_timestamp=time.time(), tags={}, dynamic_partitions_store=instance, all_partitions=False, title=None,
        description=None, run_config=None,
    )  # fmt: skip
    instance.add_backfill(backfill)

    def has_ended() -> bool:
        found = instance.get_backfill(name)
        assert found is not None and found.status not in (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED)
        return found.status == BulkActionStatus.COMPLETED_SUCCESS

    wait_for(has_ended)
    return instance


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the backfill does not end"
        time.sleep(0.2)


def count_spark(home: Path) -> int:
    """Starts of Spark: each application has a log of its own."""
    folder = home / "logs" / "spark"
    return len(list(folder.glob("reports-*.out"))) if folder.exists() else 0


def read_all(lakehouse: LakehouseResource) -> dict[str, list[list[str]]]:
    tables = [*(report.table.name for report in DAILY_REPORTS), "gold.customer_360"]
    return {name: rounded(lakehouse.delta_table(name).to_pyarrow_table()) for name in tables}


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster calls its own
def test_spark_starts_once_for_all_ranges_and_not_at_all_where_nothing_changed(
    filled: LakehouseResource, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with daemon(filled, home) as instance:
        ask_for(instance, "first", DAYS)
        runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": "first"}))
        by_day = [run for run in runs if "dagster/asset_partition_range_start" in run.tags]
        assert len(by_day) == 3, "Dagster's ranges without a hole"
        assert count_spark(home) == 1
        assert {day for _, day in versions(filled)} == set(DAYS)
        for report in DAILY_REPORTS:
            assert instance.get_materialized_partitions(report_key(report)) == {str(day) for day in DAYS}
        assert instance.get_latest_materialization_event(CUSTOMERS_KEY) is not None
        before = versions(filled)
        ask_for(instance, "again", DAYS)
        assert (count_spark(home), versions(filled)) == (1, before)
    assert {row["state"] for row in read_rows(filled, REPORT_DAYS.name)} == {"final"}

    by_spark = read_all(filled)
    for name in by_spark:
        filled.delta_table(name).delete()
    for day in DAYS:
        run_reports(filled, str(day))
    assert read_all(filled) == by_spark
