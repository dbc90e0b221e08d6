"""Dagster's internals that the launcher and the instance's settings rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus

from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.launcher import LocalHealthRunLauncher
from resources.settings import Settings


@dg.job
def some_job() -> None:
    pass


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(Settings(home=tmp_path))))
    return dg.DagsterInstance.get()


def test_generated_dagster_yaml_is_accepted_and_in_force(instance: dg.DagsterInstance) -> None:
    with instance:
        assert isinstance(instance.run_launcher, LocalHealthRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.get_concurrency_config().run_queue_config is not None
        assert not instance.telemetry_enabled


def test_run_is_unhealthy_once_its_process_is_gone(instance: dg.DagsterInstance) -> None:
    with instance:
        run = instance.create_run_for_job(some_job)
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            message = f"Started process for run (pid: {child.pid})."
            instance.report_engine_event(message, run, EngineEventData.in_process(child.pid))
            assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
            child.kill()
        assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_dagster_home_is_written_once_and_a_persons_file_is_kept(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    path = ensure_dagster_home(settings) / "dagster.yaml"
    written = path.stat().st_mtime_ns
    assert ensure_dagster_home(settings) == path.parent
    assert path.stat().st_mtime_ns == written
    assert yaml.safe_load(path.read_text())["run_monitoring"]["enabled"] is True
    longer = Settings(home=tmp_path, stop_grace_seconds=500)
    assert (
        yaml.safe_load((ensure_dagster_home(longer) / "dagster.yaml").read_text())["run_monitoring"][
            "cancel_timeout_seconds"
        ]
        == 560
    )
    path.write_text("telemetry: {enabled: false}\n")
    ensure_dagster_home(settings)
    assert path.read_text() == "telemetry: {enabled: false}\n"


def test_home_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    from platform_assets.errors import StorageError

    blocked = tmp_path / "file"
    blocked.write_text(str(os.getpid()))
    with pytest.raises(StorageError, match="HEADRACE_HOME"):
        ensure_dagster_home(Settings(home=blocked))


def test_an_event_with_the_workers_words_and_no_process_is_passed_over(instance: dg.DagsterInstance) -> None:
    with instance:
        run = instance.create_run_for_job(some_job)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            message = f"Started process for run (pid: {child.pid})."
            instance.report_engine_event(message, run, EngineEventData.in_process(child.pid))
            instance.report_engine_event("Started process for run, somebody says.", run)
            instance.report_engine_event(
                "Started process for run.", run, EngineEventData({"pid": dg.TextMetadataValue("x")})
            )
            assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
            child.kill()
        assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
