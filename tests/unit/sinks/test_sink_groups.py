"""Sinks as a group: kills, leases, pauses, stores that are away, and a user who is forgotten meanwhile."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from jobs.definitions.streaming_job import build_streaming_job
from jobs.operations.drain import EXIT_DONE, EXIT_FAILED, drain_streams
from jobs.operations.forgetting.sinks import follow_erasure
from jobs.supervision.lease import read_report, request_shutdown
from platform_assets.errors import GroupOwnedError
from platform_assets.sinks.sink_group import SinkGroup
from platform_assets.streaming.stream_spec import StreamGroup, name_sink
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.s3_lakehouse import build_settings
from tests.s3_server import BUCKET, running_s3
from tests.unit.sinks.sunk_table import (
    SPEC,
    SunkTable,
    build_row,
    find_version,
    nobody_at,
    read_account,
    read_state,
    wait_for,
    wait_for_later,
)

ROOT = Path(__file__).parents[3]
NAME = name_sink(SPEC)


@pytest.mark.long
def test_a_sink_that_is_killed_again_and_again_loses_and_doubles_nothing(
    table: SunkTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host is killed as soon as it has applied something, while the table goes on changing."""
    table.append([build_row(number) for number in range(20)])
    command = [sys.executable, "-m", "tests.unit.sinks.sink_process"]
    arguments = [table.lakehouse.root, table.url, str(tmp_path / "home")]
    seen = -1
    for turn in range(6):
        with subprocess.Popen([*command, *arguments], cwd=ROOT) as host:
            try:
                wait_for_later(table, seen)
                for step in range(4):
                    number = 100 * (turn + 1) + 3 * step
                    table.upsert([build_row(number), build_row(step, amount=float(turn))])
                    table.delete([number - 3])
                wait_for_later(table, find_version(table))
            finally:
                host.kill()
        seen = find_version(table)
        table.append([build_row(1000 + turn)])
    table.follow()
    table.demand_equal()


def test_nothing_is_written_under_a_lost_lease(table: SunkTable) -> None:
    def refuse() -> None:
        raise GroupOwnedError("Another host has taken over.")

    table.append([build_row(1)])
    replaced = table.open_sink(check_lease=refuse)
    with pytest.raises(GroupOwnedError):
        replaced.advance()
    replaced.close()
    assert table.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'headrace'") == []


def test_of_two_hosts_that_both_believe_to_own_the_group_each_version_is_applied_once(table: SunkTable) -> None:
    table.append([build_row(0)])
    first, second = table.open_sink(), table.open_sink()
    for number in range(1, 9):
        table.append([build_row(number)])
        for each in (first, second) if number % 2 else (second, first):
            each.advance()
    for each in (first, second):
        table.follow(each)
        each.close()
    table.demand_equal()


def test_sinks_that_begin_together_in_an_empty_database_do_not_meet(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    tables = [replace(table, spec=replace(SPEC, name=f"gold.sunk_{number}")) for number in range(4)]
    for each in tables:
        each.append([build_row(1)])
    group = SinkGroup([each.target for each in tables], group_settings, table.lakehouse)
    group.start(bounded=True)
    wait_for(group.is_finished, "all are loaded")
    group.stop(10.0)
    for each in tables:
        each.demand_equal()
    assert "stands still" not in caplog.text


def test_a_database_that_is_away_is_said_once_and_disturbsnobody_at(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table.append([build_row(1)])
    name = table.url.rpartition("/")[2]
    admin = replace(table, url=table.url.replace(name, "dagster"))
    group = SinkGroup([table.target], group_settings, table.lakehouse)
    group.start()
    try:
        wait_for(lambda: read_state(group).version == 1, "loaded")
        admin.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        table.append([build_row(2)])
        wait_for(lambda: bool(read_state(group).trouble and read_state(group).behind_since), "it stands")
        group.reconcile()
        wait_for(lambda: not group.sinks[NAME].is_connected, "it has tried again")
        assert group.failure() is None
        admin.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: read_state(group).version == 2, "caught up")
        wait_for(lambda: not read_state(group).trouble, "said to go on")
    finally:
        group.stop(10.0)
    table.demand_equal()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("followers")]
    assert [line.startswith("The sink of gold.sunk_rows stands still. Postgres at 127.0.0.1") for line in said] == [
        True,
        False,
    ]
    assert "goes on" in said[1]


@pytest.mark.long
def test_an_object_store_that_is_away_is_waited_for(
    table: SunkTable, group_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_s3() as server:
        settings = build_settings(tmp_path, f"s3://{BUCKET}/sinks", server.options)
        there = replace(table, lakehouse=LakehouseResource.from_settings(settings))
        there.append([build_row(1), build_row(2)])
        group = SinkGroup([there.target], group_settings, there.lakehouse)
        group.start()
        try:
            wait_for(lambda: read_state(group).version == 1, "loaded")
            there.upsert([build_row(1, amount=2.0)])
            wait_for(lambda: read_state(group).version == 2, "followed")
            server.stop()
            wait_for(lambda: "does not answer" in read_state(group).trouble, "it stands")
            server.start()
            wait_for(lambda: not read_state(group).trouble, "it goes on")
            there.append([build_row(3)])
            wait_for(lambda: read_state(group).version == 3, "followed")
            assert group.failure() is None
        finally:
            group.stop(10.0)
        there.demand_equal()
    assert "loaded anew" not in caplog.text


def test_a_sink_is_paused_and_started_again(table: SunkTable, group_settings: Settings) -> None:
    table.append([build_row(1)])
    group = SinkGroup([table.target], group_settings, table.lakehouse)
    group.start(paused=frozenset({NAME}))
    assert group.progress() == {}
    group.reconcile()
    wait_for(lambda: bool((found := group.progress().get(NAME)) and found.table_versions == {SPEC.name: 1}), "loaded")
    group.reconcile(frozenset({NAME}))
    wait_for(lambda: not group._workers[NAME].is_active, "it has ended")
    table.append([build_row(2)])
    assert read_account(table)["version"] == 1
    group.reconcile(restart_at={NAME: time.time() + 1})
    wait_for(lambda: read_account(table)["version"] == 2, "it goes on")
    group.stop(10.0)


def test_a_drain_brings_the_group_to_the_newest_version(table: SunkTable, group_settings: Settings) -> None:
    table.append([build_row(1)])
    group, lines = StreamGroup("postgres", (), sinks=(SPEC,)), list[str]()
    assert drain_streams(group, group_settings, lines.append) == EXIT_DONE
    table.demand_equal()
    closed = group_settings.model_copy(update={"postgres_url": type(group_settings.postgres_url)(nobody_at(table.url))})
    assert drain_streams(group, closed, lines.append) == EXIT_FAILED
    assert "does not answer" in lines[-1] and "goes on by itself" in lines[-1]


def test_a_supervised_run_hosts_the_sinks_until_it_is_asked_to_stop(
    table: SunkTable, group_settings: Settings, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(group_settings.home))
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", table.lakehouse.root)
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", table.url)
    group = StreamGroup("postgres", (), sinks=(SPEC,))
    table.append([build_row(1)])
    with dg.instance_for_test() as instance:

        def read_progress() -> dict[str, Any]:
            found = read_report(instance, "postgres")
            return {} if found is None else found.queries.get(NAME, {}).get("sink", {})

        def stop_when_it_has_followed() -> None:
            wait_for_later(table, 0)
            table.append([build_row(2)])
            wait_for(lambda: read_progress().get("version") == 2, "it has reported the second version")
            request_shutdown(instance, "postgres", "the test is over")

        person = threading.Thread(target=stop_when_it_has_followed)
        person.start()
        result = build_streaming_job([group]).execute_in_process(instance=instance)
        person.join()
        assert read_progress() == {"version": 2, "rows": 2, "behind_since": None, "trouble": ""}
    assert result.success
    table.demand_equal()


def test_a_forgotten_user_is_gone_before_the_files_are(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    groups, said = [StreamGroup("postgres", (), sinks=(SPEC,))], list[str]()
    table.append([build_row(1, text="ann"), build_row(4, text="bob")])
    table.follow()
    table.delete([1])
    assert follow_erasure(groups, group_settings, table.lakehouse, lambda: None, said.append) == ()
    assert [row["text"] for row in table.read_postgres()] == ["bob"]
    table.vacuum()
    table.append([build_row(7)])
    table.follow()
    table.demand_equal()
    assert "loaded anew" not in caplog.text


def test_a_user_who_is_forgotten_while_the_database_is_away_goes_by_a_load(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    groups = [StreamGroup("postgres", (), sinks=(SPEC,))]
    table.append([build_row(1, text="ann"), build_row(4, text="bob")])
    table.follow()
    table.delete([1])
    away = group_settings.model_copy(update={"postgres_url": type(group_settings.postgres_url)(nobody_at(table.url))})
    [left] = follow_erasure(groups, away, table.lakehouse, lambda: None, lambda line: None)
    assert left.startswith("gold.sunk_rows in Postgres may still have the user")
    table.vacuum()
    table.follow()
    table.demand_equal()
    assert [row["text"] for row in table.read_postgres()] == ["bob"]
    assert "loaded anew" in caplog.text
