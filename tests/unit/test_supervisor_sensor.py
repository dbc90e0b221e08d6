"""The sensor around `decide`, on an ephemeral Dagster instance: what it reads, requests and writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.group_lock import daemon_lock, hold_group_lock, holding_streams_back, read_lock
from jobs.supervision.lease import (
    HostReport,
    read_control,
    read_report,
    read_stop,
    request_shutdown,
    write_control,
    write_heartbeat,
)
from jobs.supervision.model import Control, ExitKind, Heartbeat, StopCause
from jobs.supervision.run_records import build_run_config, build_run_tags, read_runs, record_exit
from jobs.supervision.stream_running import STREAM_RUNNING, build_stream_running_checks
from platform_assets.errors import GroupOwnedError
from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup
from platform_assets.topics.events import TOPIC
from resources.processes import ProcessIdentity, identify
from resources.settings import Settings

GROUP = StreamGroup("clickstream", (KafkaStream(TOPIC, 1.0),))
SLEEPER = [sys.executable, "-c", "input()"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def job() -> dg.JobDefinition:
    return build_streaming_job([GROUP])


def tick(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition, cursor: str | None = None
) -> dg.SensorResult:
    sensor = build_stream_supervisor([GROUP], job, settings)
    result = sensor(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def message(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def start_run(instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition) -> str:
    tags = build_run_tags(GROUP.name, build_fingerprint(GROUP, settings))
    run = instance.create_run_for_job(job, run_config=build_run_config(GROUP.name), tags=tags)
    for kind in (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START):
        instance.report_dagster_event(dg.DagsterEvent(kind.value, job.name), run_id=run.run_id)
    return run.run_id


def beat(instance: dg.DagsterInstance, run_id: str, process: ProcessIdentity, phase: str = "running") -> None:
    write_heartbeat(instance, GROUP.name, HostReport(Heartbeat(run_id, time.time(), process, phase)))


def me() -> ProcessIdentity:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def gone() -> ProcessIdentity:
    return ProcessIdentity(me().host, os.getpid(), "another boot:1")


def test_first_tick_requests_one_valid_run(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    result = tick(instance, settings, job)
    assert result.run_requests is not None
    [request] = result.run_requests
    assert request.run_key == "clickstream:after:none"
    assert request.tags["headrace/group"] == "clickstream"
    assert request.tags["dagster/max_runtime"] == request.tags["dagster/max_retries"] == "0"
    assert dg.validate_run_config(job, request.run_config)


def test_no_stream_is_started_before_the_platform_has_its_broker_and_topic(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    with holding_streams_back(settings.home):
        result = tick(instance, settings, job)
        assert not result.run_requests
        assert "The platform is starting" in message(result)
    assert tick(instance, settings, job).run_requests


def test_sensor_runs_by_default(settings: Settings, job: dg.JobDefinition) -> None:
    sensor = build_stream_supervisor([GROUP], job, settings)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == settings.supervisor_interval_seconds


def test_healthy_run_is_adopted_without_a_cursor(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    beat(instance, start_run(instance, settings, job), me())
    result = tick(instance, settings, job, cursor="not JSON")
    assert "clickstream: RUNNING" in message(result)
    assert not result.run_requests


def test_the_tick_says_what_waits_behind_an_open_transaction_while_the_host_lives(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    held = {"events": {"held_records": 1200, "held_since": "2026-06-10T09:00:00+00:00"}}
    sentence = "1,200 records wait in Kafka behind a transaction that is open since 2026-06-10 09:00:00 UTC."
    for process, is_said in ((me(), True), (gone(), False)):
        write_heartbeat(
            instance, GROUP.name, HostReport(Heartbeat(run_id, time.time(), process, "running"), dict(held))
        )
        assert (sentence in message(tick(instance, settings, job))) is is_said


def test_zombie_run_is_reported_failed_and_replaced(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    beat(instance, run_id, gone())
    first = tick(instance, settings, job)
    assert "FAILING" in message(first)
    assert read_runs(instance, GROUP.name, 5)[0].status == "failure"
    second = tick(instance, settings, job, first.cursor)
    assert second.run_requests is not None
    assert [request.run_key for request in second.run_requests] == [f"clickstream:after:{run_id}"]


def test_check_event_is_emitted_when_the_phase_changes_its_meaning_only(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    beat(instance, run_id, me())
    first = tick(instance, settings, job)
    [event] = first.asset_events
    assert isinstance(event, dg.AssetCheckEvaluation)
    assert (event.check_name, event.passed, event.asset_key) == (
        STREAM_RUNNING,
        True,
        dg.AssetKey(["silver", "events"]),
    )
    second = tick(instance, settings, job, first.cursor)
    assert second.asset_events == []
    beat(instance, run_id, gone())
    [failing] = tick(instance, settings, job, second.cursor).asset_events
    assert isinstance(failing, dg.AssetCheckEvaluation) and not failing.passed


def test_terminal_exit_is_shown_with_what_to_do_until_resumed(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    record_exit(instance, run_id, ExitKind.TERMINAL, "Topic t does not exist. Create it.")
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
    assert "NEEDS_ATTENTION: Topic t does not exist. Create it." in message(tick(instance, settings, job))
    write_control(instance, GROUP.name, "resume", by="ann")
    assert tick(instance, settings, job).run_requests


def test_pause_writes_a_stop_record_for_exactly_the_live_run(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    beat(instance, run_id, me())
    write_control(instance, GROUP.name, "pause", by="ann", reason="new disks")
    assert "STOPPING" in message(tick(instance, settings, job))
    record = read_stop(instance, GROUP.name)
    assert record is not None
    assert (record.run_id, record.cause) == (run_id, StopCause.PAUSE)
    assert read_runs(instance, GROUP.name, 5)[0].stop_cause is StopCause.PAUSE


def test_paused_stream_turns_its_check_while_its_group_runs(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    beat(instance, start_run(instance, settings, job), me())
    first = tick(instance, settings, job)
    write_control(instance, GROUP.name, "pause", by="ann", stream="events")
    second = tick(instance, settings, job, first.cursor)
    assert "events is paused by ann" in message(second)
    [paused] = second.asset_events
    assert isinstance(paused, dg.AssetCheckEvaluation)
    assert (paused.passed, paused.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert tick(instance, settings, job, second.cursor).asset_events == []
    write_control(instance, GROUP.name, "resume", by="ann", stream="events")
    [resumed] = tick(instance, settings, job, second.cursor).asset_events
    assert isinstance(resumed, dg.AssetCheckEvaluation) and resumed.passed


def test_unfinished_run_is_never_forgotten_behind_newer_ones(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    run_id = start_run(instance, settings, job)
    for _ in range(3):
        newer = instance.get_run_by_id(start_run(instance, settings, job))
        assert newer is not None
        instance.report_run_failed(newer)
    assert run_id in {run.run_id for run in read_runs(instance, GROUP.name, limit=2)}


def test_nothing_is_launched_while_a_drain_holds_the_lock(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    with hold_group_lock(settings.home, GROUP.name, "drain"):
        result = tick(instance, settings, job)
        assert "ORPHAN: the lock is held by a drain" in message(result)
        assert not result.run_requests
    assert tick(instance, settings, job).run_requests


def test_second_owner_is_refused_with_the_first_ones_name(settings: Settings) -> None:
    owner = f"clickstream is owned by run 01234567 .pid {os.getpid()}"
    with (
        hold_group_lock(settings.home, GROUP.name, "run", "0123456789"),
        pytest.raises(GroupOwnedError, match=owner),
        hold_group_lock(settings.home, GROUP.name, "drain"),
    ):
        pass
    assert not read_lock(settings.home, GROUP.name).held


def test_lock_is_held_until_the_last_inheritor_is_dead(settings: Settings) -> None:
    with hold_group_lock(settings.home, GROUP.name, "run", "r") as fd:
        child = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, pass_fds=(fd,))
    with child:
        try:
            assert read_lock(settings.home, GROUP.name).held
        finally:
            child.kill()
    assert not read_lock(settings.home, GROUP.name).held


def test_two_daemons_on_one_home_are_refused(settings: Settings) -> None:
    with (
        daemon_lock(settings.home),
        pytest.raises(GroupOwnedError, match=f"pid {os.getpid()}"),
        daemon_lock(settings.home),
    ):
        pass


def test_a_pause_outlives_an_upgrade_whose_records_have_other_fields(instance: dg.DagsterInstance) -> None:
    old = '{"v": 1, "paused": true, "paused_by": "ann", "pause_reason": "", "resumed_at": 5.0}'
    instance.daemon_cursor_storage.set_cursor_values({"headrace/control/g": old})
    assert read_control(instance, "g") == Control(paused=True, paused_by="ann")


def test_records_survive_a_round_trip_and_other_versions_read_as_absent(
    instance: dg.DagsterInstance, job: dg.JobDefinition
) -> None:
    beat_ = Heartbeat("r", 12.5, me(), "running", 3, ProcessIdentity("here", 5, "b:6"))
    report = HostReport(beat_, {"events": {"batch_id": 4}})
    write_heartbeat(instance, "g", report)
    assert read_report(instance, "g") == report
    assert request_shutdown(instance, "g", "the platform stops") == "r"
    stop = read_stop(instance, "g")
    assert stop is not None and stop.cause is StopCause.SHUTDOWN
    write_control(instance, "g", "pause", by="ann")
    assert read_control(instance, "g").paused and read_control(instance, "g").stop == stop
    tags = build_run_tags("g", "v1")
    ended = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.FAILURE).run_id
    living = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id
    write_control(instance, "g", "restart", by="ann")
    control = read_control(instance, "g")
    assert (control.paused, control.forgiven_runs, control.restart_runs) == (False, (ended,), (living,))
    instance.daemon_cursor_storage.set_cursor_values({"headrace/heartbeat/g": '{"v": 99}'})
    assert read_report(instance, "g") is None


def test_stream_running_check_reads_the_heartbeat(
    instance: dg.DagsterInstance, settings: Settings, job: dg.JobDefinition
) -> None:
    checks = build_stream_running_checks([GROUP])
    definitions = dg.Definitions(assets=[dg.AssetSpec(["silver", "events"])], asset_checks=[checks], jobs=[job])
    check_job = dg.define_asset_job("check", selection=dg.AssetSelection.checks(checks))
    resolved = dg.Definitions.merge(definitions, dg.Definitions(jobs=[check_job])).resolve_job_def("check")

    def passed() -> bool:
        [evaluation] = resolved.execute_in_process(instance=instance).get_asset_check_evaluations()
        return evaluation.passed

    assert not passed()
    beat(instance, "r", me())
    assert passed()
