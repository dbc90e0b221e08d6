"""Run monitoring asks a code server with a port, as in the containers, whether it still has a run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DefaultRunLauncher
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin

from jobs.supervision.dagster_home import ensure_dagster_home
from resources.ports import answers
from resources.processes import identify, kill
from resources.settings import Settings
from tests.integration.postgres_server import find_port
from tests.integration.supervised_platform import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.long]

DEFINITIONS = """
import threading
import dagster as dg

@dg.op
def wait(): threading.Event().wait(600)

@dg.job
def some_job(): wait()

defs = dg.Definitions(jobs=[some_job])
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a server at the port of HEADRACE_CODE_PORT; what is left of it ends with the test."""
    (tmp_path / "waiting_job.py").write_text(DEFINITIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(Settings(home=tmp_path))))
    monkeypatch.setenv("HEADRACE_CODE_PORT", str(find_port()))
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        port = os.environ["HEADRACE_CODE_PORT"]
        command = [str(Path(sys.executable).with_name("dagster")), "api", "grpc", "-h", "127.0.0.1", "-p", port]
        command += ["--python-file", str(tmp_path / "waiting_job.py"), "--location-name", "tested"]
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        wait_for(lambda: answers(int(port)), "the server answers")
        return started[-1]

    yield start
    for server in started:
        server.kill()
        server.wait()


def test_a_run_is_dead_once_the_server_that_answers_does_not_have_it(
    start: Callable[[], subprocess.Popen[bytes]],
) -> None:
    server, job = start(), importlib.import_module("waiting_job").some_job
    location = GrpcServerCodeLocationOrigin("127.0.0.1", int(os.environ["HEADRACE_CODE_PORT"]), None, "tested")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_job_origin("some_job")
    client = location.create_client()
    with dg.DagsterInstance.get() as instance:
        check = instance.run_launcher.check_run_worker_health
        run = instance.create_run_for_job(job, remote_job_origin=origin)
        DefaultRunLauncher.launch_run_from_grpc_client(instance, run, client)
        run_id = run.run_id

        def read() -> dg.DagsterRun:
            found = instance.get_run_by_id(run_id)
            assert found is not None
            return found

        wait_for(lambda: read().is_finished or read().status is dg.DagsterRunStatus.STARTED, "the run has started")
        assert not read().is_finished, [entry.message for entry in instance.all_logs(run_id)]
        assert check(read()).status is WorkerStatus.RUNNING
        workers = [identify(child.pid) for child in psutil.Process(server.pid).children(recursive=True)]
        server.kill()
        server.wait()
        for worker in workers:
            if worker is not None:
                kill(worker)
        assert check(read()).status is WorkerStatus.RUNNING  # nobody knows: a host may be cut off
        start()
        verdict = check(read())
        assert verdict.status is WorkerStatus.FAILED and "started anew" in str(verdict.msg)
        instance.report_run_failed(read())
        assert check(read()).status is WorkerStatus.RUNNING
