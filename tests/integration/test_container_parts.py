"""The parts of docker-compose.yml as its containers run them, with Dagster's storage on a real Postgres."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.supervision.group_lock import read_lock
from jobs.supervision.lease import read_report
from jobs.supervision.model import ExitKind
from resources.processes import is_alive, kill
from tests.integration.postgres_server import find_binaries
from tests.integration.streaming_definitions import GROUP
from tests.integration.supervised_platform import ROOT, Platform, wait_for

# The limit of docker-compose.yml: a service that takes longer is killed.
STOP_GRACE_PERIOD_SECONDS = 90.0


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")
def test_streams_survive_a_kill_and_end_well_with_their_containers(
    storage_on_postgres: int, platform: Platform, shoppers: threading.Event
) -> None:
    """A container's SIGTERM reaches its first process only; batches in flight are finished all the same."""
    assert "Postgres" in type(platform.instance.run_storage).__name__
    port = _find_port()
    code = [str(ROOT / "deploy" / "code_server.py"), "--host", "127.0.0.1", "--port", port]
    daemon = _daemon_command(platform, port)
    with _running(platform, "code", code):
        with _running(platform, "daemon", daemon):
            first = wait_for(platform.running_host, "the first run hosts the queries")
            wait_for(platform.coordinates, "the first rows")
            assert kill(first.process)
            second = wait_for(lambda: platform.running_host(first.run_id), "a run after kill -9 of the run's process")
            rows = len(platform.coordinates())
            wait_for(lambda: len(platform.coordinates()) > rows, "rows after the restart")
        assert is_alive(second.process), "the streams ended with the daemon"
    assert not read_lock(platform.settings.home, GROUP.name).held
    ended = next(run for run in platform.runs() if run.run_id == second.run_id)
    assert (ended.status, ended.exit_kind, ended.exit_reason) == ("success", ExitKind.STOPPED, "the container stops")

    with _running(platform, "code", code), _running(platform, "daemon", daemon):
        wait_for(lambda: platform.running_host(second.run_id), "a run of the next containers")
        shoppers.set()
        wait_for(platform.is_caught_up, "everything is read")
    platform.prove_complete()


@contextmanager
def _running(platform: Platform, name: str, command: list[str]) -> Iterator[None]:
    """One container's first process, in a session of its own; stopped as its container is, and demanded to end well."""
    with (platform.settings.home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=platform.environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
        process.terminate()
        assert process.wait(STOP_GRACE_PERIOD_SECONDS) == 0
    finally:
        if process.poll() is None:  # the test has failed
            os.killpg(process.pid, 9)
            report = read_report(platform.instance, GROUP.name)
            for identity in (report.heartbeat.process, report.heartbeat.jvm) if report is not None else ():
                if identity is not None:
                    kill(identity)


def _daemon_command(platform: Platform, port: str) -> list[str]:
    text = (ROOT / "deploy" / "workspace.yaml").read_text()
    workspace = platform.settings.home / "workspace.yaml"
    workspace.write_text(text.replace("host: code", "host: 127.0.0.1").replace("port: 4000", f"port: {port}"))
    return [str(Path(sys.executable).parent / "dagster-daemon"), "run", "--workspace", str(workspace)]


def _find_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
