"""Which days a run computes: those that changed, and after an interruption those that are left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.reports import DAILY_REPORTS, assets
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS_TABLE
from platform_assets.reports.report_sources import SHOP
from platform_assets.reports.session_report import SESSION_REPORT_TABLE
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.platform import CHANGED_DAYS, COMPLETE_UNTIL, LATE_EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import (
    append_events,
    event,
    materialize_days,
    read_rows,
    run_reports,
    write_stream_tables,
)

NOON = datetime(2024, 2, 28, 12, 0, tzinfo=UTC)
DAYS = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 2)]
FIRST, LAST = str(DAYS[0]), str(DAYS[-1])
MINUTE = timedelta(minutes=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def four_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a lakehouse of four days with their reports, to be copied."""
    root = tmp_path_factory.mktemp("four_days")
    lakehouse = LakehouseResource(root=str(root))
    events = [event(f"u{n}", NOON + timedelta(days=n), kind) for n in range(4) for kind in ("page_view", "purchase")]
    append_events(lakehouse, events)
    materialize_days(lakehouse, FIRST, LAST)
    return root


@pytest.fixture
def written(four_days: Path, tmp_path: Path) -> LakehouseResource:
    """A copy of one's own of the four days."""
    return LakehouseResource(root=str(shutil.copytree(four_days, tmp_path / "written")))


def versions(lakehouse: LakehouseResource) -> dict[tuple[str, date], int]:
    return {
        (row["report"], row["report_date"]): row["report_version"] for row in read_rows(lakehouse, REPORT_DAYS.name)
    }


def computed(before: dict[tuple[str, date], int], lakehouse: LakehouseResource) -> dict[str, list[date]]:
    """The days of each report that were written since."""
    found: dict[str, list[date]] = {}
    for (report, day), version in sorted(versions(lakehouse).items()):
        if before.get((report, day)) != version:
            found.setdefault(report, []).append(day)
    return found


def materialized(result: dg.ExecuteInProcessResult) -> Counter[str]:
    return Counter(e.asset_key.path[-1] for e in result.get_asset_materialization_events() if e.asset_key is not None)


def test_a_second_run_computes_nothing_and_says_so(written: LakehouseResource) -> None:
    before = versions(written)
    assert len(before) == len(DAILY_REPORTS) * len(DAYS)
    result = run_reports(written, FIRST, LAST)
    assert computed(before, written) == {}
    # A backfill's partitions are all there, each with the reason; the nightly run is silent about what it left alone.
    assert materialized(result)["session_report"] == len(DAYS)
    events = [e.step_materialization_data.materialization for e in result.get_asset_materialization_events()]
    unchanged = [m for m in events if m.asset_key.path[-1] == "session_report"]
    assert all("no input has changed" in str(m.metadata["headrace/unchanged"].value) for m in unchanged)
    nightly = run_reports(written, FIRST, LAST, tags={assets.ONLY_CHANGED_TAG: FIRST})
    assert set(materialized(nightly)) <= {"customer_360"}


def test_late_rows_make_their_days_stale_and_no_others(written: LakehouseResource) -> None:
    before = versions(written)
    append_events(written, [event("late", NOON + timedelta(days=1))], first_offset=100)
    result = run_reports(written, FIRST, LAST, tags={assets.ONLY_CHANGED_TAG: FIRST})
    around = DAYS[:3]  # a view may lead to a purchase after midnight
    assert computed(before, written) == {
        "gold.customer_days": [DAYS[1]],
        "gold.product_affinity": [DAYS[1]],
        "gold.purchase_correlations": around,
        "gold.purchase_devices": around,
    }
    assert materialized(result)["daily_page"] == len(around)


def test_at_night_a_day_before_the_look_back_is_computed_when_its_rows_changed(written: LakehouseResource) -> None:
    before = versions(written)
    append_events(written, [event("late", NOON)], first_offset=100)
    version = written.delta_table("silver.events").version()
    changes = [{"table_name": "silver.events", "day": day, "version": version} for day in (DAYS[0], None)]
    table = create_table(written.table_uri(CHANGED_DAYS.name), CHANGED_DAYS)
    write_deltalake(table, pa.Table.from_pylist(changes, build_arrow_schema(CHANGED_DAYS)), mode="overwrite")
    result = run_reports(written, LAST, LAST, tags={assets.ONLY_CHANGED_TAG: FIRST})
    assert computed(before, written)["gold.customer_days"] == [DAYS[0]]
    assert materialized(result)["customer_days"] == 1


def test_a_command_that_changes_rows_has_their_days_computed(written: LakehouseResource, tmp_path: Path) -> None:
    """The job of the code location, called as `headrace forget-user` does at its end."""
    before = versions(written)
    append_events(written, [event("late", NOON + timedelta(days=1))], first_offset=100)
    script = (
        "import dagster as dg\nfrom jobs.platform.reports_run import compute_changed_days\n"
        "from jobs.platform.services import prepare_environment\nfrom resources.lakehouse import LakehouseResource\n"
        "from resources.settings import load_settings\nsettings = load_settings()\nprepare_environment(settings)\n"
        "lakehouse = LakehouseResource.from_settings(settings)\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    raise SystemExit(0 if compute_changed_days(instance, lakehouse) else 1)\n"
    )
    environment = {**os.environ, "HEADRACE_HOME": str(tmp_path / "home"), "HEADRACE_LAKEHOUSE": written.root_uri}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=200)
    assert computed(before, written)["gold.customer_days"] == [DAYS[1]]
    assert computed(before, written)["gold.purchase_correlations"] == DAYS[:3]


def test_a_day_that_somebody_else_changed_is_computed_again(written: LakehouseResource) -> None:
    rows = read_rows(written, "gold.session_report")
    before = versions(written)
    written.delta_table("gold.session_report").delete(f"report_date = '{DAYS[2]}'")
    run_reports(written, FIRST, LAST)
    assert computed(before, written) == {"gold.session_report": [DAYS[2]]}
    assert read_rows(written, "gold.session_report") == rows


def test_a_day_that_another_run_replaces_before_it_is_noted_is_computed_again(
    written: LakehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(written, SESSION_REPORT_TABLE.name)
    replace = DuckDBEngine.replace

    def replace_and_lose(engine: DuckDBEngine, sql: str, inputs: Any, spec: Any, commit: Any) -> None:
        replace(engine, sql, inputs, spec, commit)
        if spec == SESSION_REPORT_TABLE:
            written.delta_table(spec.name).delete(f"report_date = '{DAYS[2]}'")

    written.delta_table(SESSION_REPORT_TABLE.name).delete(f"report_date = '{DAYS[2]}'")
    with monkeypatch.context() as patch:
        patch.setattr(DuckDBEngine, "replace", replace_and_lose)
        run_reports(written, FIRST, LAST)
    before = versions(written)
    run_reports(written, FIRST, LAST)
    assert computed(before, written) == {SESSION_REPORT_TABLE.name: [DAYS[2]]}
    assert read_rows(written, SESSION_REPORT_TABLE.name) == rows


def close(lakehouse: LakehouseResource, until: datetime, pending: int = 0) -> None:
    """What the stream group writes when its tables are complete until then."""
    table = create_table(lakehouse.table_uri(COMPLETE_UNTIL.name), COMPLETE_UNTIL)
    rows: list[dict[str, Any]] = [
        {
            "query": query,
            "table_name": query,
            "complete_until": until,
            "watermark": until,
            "late_events_pending": pending,
        }
        for query in SHOP.queries
    ]
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(COMPLETE_UNTIL)), mode="overwrite")


def test_days_are_final_once_the_streams_are_complete_beyond_what_may_be_open(written: LakehouseResource) -> None:
    def states() -> dict[date, set[str]]:
        found: dict[date, set[str]] = {}
        for row in read_rows(written, REPORT_DAYS.name):
            found.setdefault(row["report_date"], set()).add(row["state"])
        return found

    assert states() == {day: {"provisional"} for day in DAYS}
    midnight = datetime(2024, 3, 1, tzinfo=UTC)
    close(written, midnight + SHOP.longest_open - MINUTE)
    before = versions(written)
    result = run_reports(written, FIRST, LAST)
    assert {day for _, days in computed(before, written).items() for day in days} == {DAYS[0]}
    close(written, midnight + SHOP.longest_open)
    run_reports(written, FIRST, LAST)
    assert states() == {day: {"final"} if day < midnight.date() else {"provisional"} for day in DAYS}
    # A late event that waits for its repair: the day is not what it was said to be.
    close(written, midnight - timedelta(hours=3), pending=1)
    run_reports(written, FIRST, LAST)
    assert states()[DAYS[1]] == {"provisional"}
    assert result.success


def test_a_final_day_names_what_it_lacks_and_is_computed_again_when_it_is_there(written: LakehouseResource) -> None:
    def exceptions() -> dict[date, set[str | None]]:
        found: dict[date, set[str | None]] = {}
        for row in read_rows(written, REPORT_DAYS.name):
            found.setdefault(row["report_date"], set()).add(row["exceptions"])
        return found

    late_at_night = NOON.replace(hour=23, minute=50)
    append_events(written, [event("monitor", late_at_night)], first_offset=100)
    late = create_table(written.table_uri(LATE_EVENTS.name), LATE_EVENTS)
    waiting = {"query": "sessions", "topic": "t", "kafka_partition": 0, "kafka_offset": 1, "event_time": NOON}
    write_deltalake(late, pa.Table.from_pylist([waiting], build_arrow_schema(LATE_EVENTS)), mode="append")
    close(written, NOON.replace(hour=0) + timedelta(days=2) + SHOP.longest_open)
    run_reports(written, FIRST, LAST)
    lacking = json.dumps({"late_events": 1, "open_sessions": 1})
    assert exceptions() == {DAYS[0]: {lacking}, **{day: {None} for day in DAYS[1:]}}

    session = read_rows(written, "gold.sessions")[0] | {
        "user_id": "monitor", "session_start": late_at_night, "session_end": late_at_night, "session_date": DAYS[0]
    }  # fmt: skip
    rows = pa.Table.from_pylist([session], build_arrow_schema(SESSIONS))
    write_deltalake(written.delta_table("gold.sessions"), rows, mode="append")
    written.delta_table(LATE_EVENTS.name).update(updates={"repaired_at": "now()"})
    run_reports(written, FIRST, LAST)
    assert exceptions() == {day: {None} for day in DAYS}


def test_an_interrupted_backfill_goes_on_where_it_was(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_events(lakehouse, [event("u", NOON + timedelta(days=n)) for n in range(4)])
    monkeypatch.setattr(assets, "DAYS_OF_ONE_CHUNK", 1)
    calls = []

    replace = DuckDBEngine.replace

    def die_at_the_third(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(DuckDBEngine, "replace", die_at_the_third)
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        materialize_days(lakehouse, FIRST, LAST, instance=instance, only=[SESSION_REPORT_TABLE])
    done = versions(lakehouse)
    assert sorted(done) == [("gold.session_report", day) for day in DAYS[:2]]
    # Dagster knows of them as well: each chunk says so when it is committed.
    key = dg.AssetKey(["gold", "session_report"])
    assert instance.get_materialized_partitions(key) == {str(day) for day in DAYS[:2]}

    result = run_reports(lakehouse, FIRST, LAST, instance=instance, only=[SESSION_REPORT_TABLE])
    assert result.success
    assert computed(done, lakehouse)["gold.session_report"] == DAYS[2:]
    assert instance.get_materialized_partitions(key) == {str(day) for day in DAYS}


def test_another_code_makes_all_days_stale(written: LakehouseResource, monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions(written)
    monkeypatch.setattr(type(DAILY_REPORTS[0]), "code_version", "another")
    run_reports(written, FIRST, LAST)
    assert computed(before, written)["gold.product_affinity"] == DAYS


@pytest.mark.long
def test_a_backfill_that_was_killed_goes_on_and_comes_to_the_same_rows(tmp_path: Path) -> None:
    whole, killed = (LakehouseResource(root=str(tmp_path / name)) for name in ("whole", "killed"))
    last = NOON.date() + timedelta(days=11)  # two chunks
    for lakehouse in (whole, killed):
        events = [
            event(f"u{n % 3}", NOON + timedelta(days=n, minutes=m), kind, f"p{m}", device_type="mobile")
            for n in range(12)
            for m, kind in enumerate(("page_view", "add_to_cart", "purchase"))
        ]
        append_events(lakehouse, events)
        write_stream_tables(lakehouse)
    only = (SESSION_REPORT_TABLE, PURCHASE_CORRELATIONS_TABLE)
    run_reports(whole, FIRST, str(last), only=only)

    # Dagster starts this one as it starts any run of a person.
    tables = ",".join("/".join(table.asset_path) for table in only)
    command = ["dagster", "asset", "materialize", "-m", "platform_assets.definitions", "--select", tables]
    # Without a home of Dagster's it makes one where it is called, and a kill leaves that behind.
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    environment = {
        **os.environ, "HEADRACE_HOME": str(tmp_path), "HEADRACE_LAKEHOUSE": killed.root_uri,
        "DAGSTER_HOME": str(dagster_home),
    }  # fmt: skip
    run = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:], "--partition-range", f"{FIRST}...{last}"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: has_states(killed), run)
    finally:
        run.kill()
        run.wait()
    done = versions(killed)
    assert 10 <= len(done) < len(only) * 12

    run_reports(killed, FIRST, str(last), only=only)
    assert not set(done) & {(report, day) for report, days in computed(done, killed).items() for day in days}
    for table in only:
        assert read_rows(killed, table.name) == read_rows(whole, table.name)


def has_states(lakehouse: LakehouseResource) -> bool:
    uri = lakehouse.table_uri(REPORT_DAYS.name)
    return DeltaTable.is_deltatable(uri) and bool(DeltaTable(uri).to_pyarrow_dataset().count_rows())


def wait_for(condition: Callable[[], bool], run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
