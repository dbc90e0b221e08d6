"""Runs are told to a real HTTP server as OpenLineage's events: once each, whole, and after it was away."""

# No postponed annotations in this file: Dagster reads those of assets at definition time.
import dataclasses
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Queue
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType
from pydantic import SecretStr

from jobs.definitions import lineage
from jobs.definitions.lineage import build_lineage_sensor
from jobs.operations.lineage import due
from jobs.operations.lineage.column_lineage import find_sources
from jobs.operations.lineage.datasets import name_table, name_topic
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.group_lease import identify_myself
from jobs.supervision.lease import HostReport, write_heartbeat
from jobs.supervision.model import ExitKind, Heartbeat
from jobs.supervision.run_records import build_run_tags, record_exit
from platform_assets.errors import MissingDependencyError, SettingError
from platform_assets.reports.presentation import build_column_schema
from platform_assets.streaming.stream_spec import StreamGroup, select_ingest
from platform_assets.streams import conversion_funnel, high_value_users, load_streams, sessions, view_to_purchase
from resources.settings import Settings, load_settings
from tests.unit.openlineage_server import LineageServer, check_event

TABLE = sessions.STREAM.main_table
GROUP = StreamGroup("clickstream", (*select_ingest(load_streams()), high_value_users.STREAM))


@dg.job
def streaming_job() -> None:
    """Stands for the job of that name: what counts is its runs' records."""


@dg.asset(
    key=["gold", "report"],
    deps=[dg.AssetKey(["gold", "sessions"]), dg.AssetKey(["kafka", "shop"]), dg.AssetKey(["platform", "closed_days"])],
    metadata={"dagster/table_name": "gold.report", "dagster/column_schema": build_column_schema(TABLE)},
)
def report() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"delta/version": 7})


@dg.asset(key=["gold", "broken"], deps=[report], metadata={"dagster/table_name": "gold.broken"})
def broken() -> None:
    raise ValueError("a row of user u1")


DEFINITIONS = dg.Definitions(
    assets=[
        report,
        broken,
        dg.AssetSpec(["gold", "sessions"], metadata={"dagster/table_name": "gold.sessions"}),
        dg.AssetSpec(["kafka", "shop"], metadata={"kafka/topic": "shop"}),
        dg.AssetSpec(["platform", "closed_days"]),
    ],
    jobs=[dg.define_asset_job("reports_job", [report, broken], executor_def=dg.in_process_executor), streaming_job],
)
REPOSITORY = DEFINITIONS.get_repository_def()


@pytest.fixture
def server() -> Iterator[LineageServer]:
    with LineageServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(Settings(home=tmp_path))))
    with dg.DagsterInstance.get() as instance:
        yield instance


class Sensor:
    """The sensor, its cursor, and the texts of its ticks."""

    def __init__(self, instance: dg.DagsterInstance, url: str, home: Path) -> None:
        settings = Settings.model_validate(
            {
                "home": home, "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9094,kafka-2:9094", "topic": "shop-events",
                "lakehouse": "s3://shop/lake", "storage_options": {"aws_region": "eu-central-1"},
                "openlineage_url": url, "openlineage_api_key": SecretStr("a-key"),
            }
        )  # fmt: skip
        self._sensor, self._instance = build_lineage_sensor([GROUP], settings), instance
        self.cursor: str | None = None
        self.warned: list[bool] = []
        self.tick()

    def tick(self) -> str:
        context = dg.build_sensor_context(self._instance, self.cursor, repository_def=REPOSITORY)
        said = Queue[logging.LogRecord]()
        context.log.addHandler(QueueHandler(said))
        data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor
        self.warned.append(not said.empty())
        assert data.skip_message is not None
        return data.skip_message


@pytest.fixture
def sensor(instance: dg.DagsterInstance, server: LineageServer, tmp_path: Path) -> Sensor:
    return Sensor(instance, server.url, tmp_path)


def by_job(server: LineageServer, state: str) -> dict[str, dict[str, Any]]:
    return {event["job"]["name"]: event for event in server.events if event["eventType"] == state}


def start_streams(instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = instance.create_run_for_job(streaming_job, tags=build_run_tags(GROUP.name, "1"))
    started = dg.DagsterEvent(DagsterEventType.PIPELINE_START.value, run.job_name)
    instance.report_dagster_event(started, run.run_id)
    return run


def beat(instance: dg.DagsterInstance, run_id: str, version: int) -> None:
    query = {"rows_in": 500, "bytes_in": 12_000, "table_versions": {"silver.events": version}}
    heart = Heartbeat(run_id, time.time(), identify_myself(), "running", 1)
    write_heartbeat(instance, GROUP.name, HostReport(heart, {"events": query}))


def test_a_report_that_is_computed_and_one_that_fails(instance: dg.DagsterInstance, server: LineageServer,
                                                      sensor: Sensor) -> None:  # fmt: skip
    job = REPOSITORY.get_job("reports_job")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert sensor.tick() == "The endpoint of HEADRACE_OPENLINEAGE_URL took 4 events."
    assert sensor.tick() == "Nothing new."
    assert [state for state, _ in server.told()[:2]] == ["START", "START"]
    assert sorted(server.told()) == [
        ("COMPLETE", "gold.report"), ("FAIL", "gold.broken"), ("START", "gold.broken"), ("START", "gold.report"),
    ]  # fmt: skip
    for event in server.events:
        check_event(event)
        assert event["run"]["facets"]["parent"]["run"]["runId"] == result.run_id
        assert "u1" not in str(event["run"])
    assert set(server.keys) == {"Bearer a-key"}
    done = by_job(server, "COMPLETE")["gold.report"]
    assert {(each["namespace"], each["name"]) for each in done["inputs"]} == {
        ("s3://shop", "lake/gold/sessions"), ("kafka://kafka-1:9094", "shop"),
    }  # fmt: skip
    (output,) = done["outputs"]
    assert (output["namespace"], output["name"]) == ("s3://shop", "lake/gold/report")
    assert output["facets"]["version"]["datasetVersion"] == "7"
    assert {f["name"]: f["type"] for f in output["facets"]["schema"]["fields"]} == {
        column.name: column.type for column in TABLE.columns
    }
    assert by_job(server, "START")["gold.report"]["run"]["runId"] == done["run"]["runId"]


def test_streams_start_go_on_and_end(instance: dg.DagsterInstance, server: LineageServer, sensor: Sensor,
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    run = start_streams(instance)
    sensor.tick()
    beat(instance, run.run_id, 41)
    sensor.tick()
    jobs = ["clickstream.events", "clickstream.high_value_users"]
    assert server.told() == [("START", job) for job in jobs]
    monkeypatch.setattr(due, "RUNNING_SECONDS", 0.0)
    sensor.tick()
    beat(instance, run.run_id, 42)
    record_exit(instance, run.run_id, ExitKind.ERROR, "No Kafka broker answers.")
    instance.report_run_failed(run)
    sensor.tick()
    assert sensor.tick() == "Nothing new."
    assert server.told() == [(state, job) for state in ("START", "RUNNING", "FAIL") for job in jobs]
    for event in server.events:
        check_event(event)
        assert event["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
    running, failed = (by_job(server, state)["clickstream.events"] for state in ("RUNNING", "FAIL"))
    assert running["inputs"][0]["name"] == "shop-events"
    assert running["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 500
    versions = [event["outputs"][0]["facets"]["version"]["datasetVersion"] for event in (running, failed)]
    assert versions == ["41", "42"]
    assert len(running["outputs"]) == 3
    assert failed["run"]["facets"]["errorMessage"]["message"] == "No Kafka broker answers."
    users = by_job(server, "START")["clickstream.high_value_users"]
    source = {"namespace": "s3://shop", "name": "lake/silver/events"}
    assert {key: users["inputs"][0][key] for key in source} == source
    columns = users["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert columns["total_spent"]["inputFields"] == [{**source, "field": "revenue", "transformations": []}]


def test_a_run_that_is_terminated_is_aborted_and_one_that_stops_is_complete(
    instance: dg.DagsterInstance, server: LineageServer, sensor: Sensor
) -> None:
    stopped, terminated = start_streams(instance), start_streams(instance)
    ended = dg.DagsterEvent(DagsterEventType.PIPELINE_SUCCESS.value, stopped.job_name)
    instance.report_dagster_event(ended, stopped.run_id)
    instance.report_run_canceled(terminated)
    sensor.tick()
    found = {event["run"]["facets"]["parent"]["run"]["runId"]: event["eventType"] for event in server.events}
    assert found == {stopped.run_id: "COMPLETE", terminated.run_id: "ABORT"}
    assert len(server.events) == 8


@pytest.mark.parametrize("trouble", [500, 302])
def test_an_endpoint_that_is_away_is_told_all_when_it_is_back(
    instance: dg.DagsterInstance, server: LineageServer, sensor: Sensor, trouble: int
) -> None:
    server.status = trouble
    runs = [start_streams(instance) for _ in range(3)]
    instance.report_run_failed(runs[0])
    instance.report_run_failed(runs[1])
    lines = [sensor.tick() for _ in range(3)]
    assert all(f"took no event (HTTP {trouble}" in line for line in lines)
    server.status = 201
    sensor.tick()
    assert sensor.warned == [False, True, False, False, True]
    assert sensor.tick() == "Nothing new."
    assert len({event["run"]["runId"] for event in server.events}) == 6
    states = [state for state, job in server.told() if job.endswith("events")]
    assert states == ["START", "FAIL", "START", "FAIL", "START"]


def test_nobody_at_the_address(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        sensor = Sensor(instance, f"http://127.0.0.1:{nobody.getsockname()[1]}", tmp_path)
        start_streams(instance)
        assert "took no event (ConnectionError)" in sensor.tick()


def test_a_long_backlog_is_told_in_parts(instance: dg.DagsterInstance, server: LineageServer, sensor: Sensor,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(due, "_RUNS_OF_ONE_LOOK", 2)
    monkeypatch.setattr(lineage, "_TELL_SECONDS", 0.0)
    runs = [start_streams(instance) for _ in range(5)]
    for run in runs:
        instance.report_run_failed(run)
    ticks = 0
    while sensor.tick() != "Nothing new.":
        ticks += 1
    assert ticks == 5
    assert len({event["run"]["runId"] for event in server.events}) == 10


def test_without_the_setting_nothing_is_imported_and_nothing_told(tmp_path: Path) -> None:
    sensor = build_lineage_sensor([GROUP], Settings(home=tmp_path))
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    data = sensor.evaluate_tick(dg.build_sensor_context(repository_def=REPOSITORY))
    assert data.skip_message == "HEADRACE_OPENLINEAGE_URL is not set."


def test_without_the_package_the_setting_says_what_to_install(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.http", None)
    with pytest.raises(MissingDependencyError, match=r"headrace\[openlineage\]"):
        Sensor(instance, "http://127.0.0.1:1", tmp_path)


@pytest.mark.usefixtures("fresh_settings")
def test_an_address_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_OPENLINEAGE_URL", "http://user:secret@marquez:5000")
    with pytest.raises(SettingError, match=r"HEADRACE_OPENLINEAGE_URL: .*HEADRACE_OPENLINEAGE_API_KEY") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("root", "namespace", "name"),
    [
        ("/data/lake", "file", "/data/lake/silver/events"),
        ("file:///data/lake/", "file", "/data/lake/silver/events"),
        ("s3://shop/a/b", "s3://shop", "a/b/silver/events"),
        ("s3a://shop", "s3://shop", "silver/events"),
        ("abfss://lake@account.dfs.core.windows.net/x", "abfss://lake@account.dfs.core.windows.net", "x/silver/events"),
    ],
)
def test_tables_are_named_as_openlineage_names_files(root: str, namespace: str, name: str) -> None:
    found = name_table(root, "silver.events")
    assert (found.namespace, found.name) == (namespace, name)


def test_a_topic_is_named_by_the_first_server() -> None:
    assert name_topic(" kafka-1 ,kafka-2:9094", "t").namespace == "kafka://kafka-1:9092"
    assert name_topic("[::1]:9094", "t").namespace == "kafka://::1:9094"


def test_columns_whose_source_the_rule_says() -> None:
    funnel, pairs = find_sources(conversion_funnel.STREAM), find_sources(view_to_purchase.STREAM)
    assert funnel["unique_visitors"] == ("event_type", "user_id")
    assert funnel["window_start"] == ("event_time",)
    assert pairs["view_event_id"] == pairs["purchase_event_id"] == ("event_id",)


def test_no_source_is_guessed() -> None:
    found = find_sources(sessions.STREAM)
    assert "event_count" not in found  # count(*): of no column
    assert {"device_type", "country"}.isdisjoint(found)  # parts of a structure
    assert find_sources(dataclasses.replace(sessions.STREAM, rule=None)) == {}
    assert find_sources(dataclasses.replace(sessions.STREAM, rule="SELECT nothing FROM elsewhere")) == {}
