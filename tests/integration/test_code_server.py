"""The one code server of Dagster's daemon and web server: its death, its successor, changed code, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from jobs.platform import code_server
from jobs.platform.code_server import CodeServer, CodeServerFailedError
from tests.integration.supervised_platform import wait_for

pytestmark = pytest.mark.integration

DEFINITIONS = "import dagster as dg\n\ndefs = dg.Definitions()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A code location of its own, and a Dagster home."""
    module = {"module_name": "jobs.location", "location_name": "tested"}
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "location.py").write_text(DEFINITIONS)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(code_server, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(code_server, "_CODE_LOOK_SECONDS", 0.5)
    with dg.DagsterInstance.get():
        return tmp_path


def start_in(folder: Path) -> Callable[[list[str]], subprocess.Popen[bytes]]:
    program = str(Path(sys.executable).with_name("dagster"))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return lambda arguments: subprocess.Popen([program, *arguments], cwd=folder, env=environment)


@pytest.fixture
def server(folder: Path) -> Iterator[CodeServer]:
    server = CodeServer(folder / "workspace.yaml", start_in(folder), folder / "log")
    yield server
    server.leave()
    for process in [server.process for server in server._servers]:
        process.kill()
        process.wait()
    server.close()


def read_id(server: CodeServer) -> str | None:
    """The server's id as Dagster's processes ask for it; None while nobody answers."""
    (location,) = yaml.safe_load(server.workspace.read_text())["load_from"]
    assert location["grpc_server"]["location_name"] == "tested"
    try:
        return str(DagsterGrpcClient(socket=location["grpc_server"]["socket"]).get_server_id(timeout=2))
    except DagsterUserCodeUnreachableError:
        return None


def test_a_dead_server_and_changed_code_are_followed_by_another_server_at_the_same_address(
    server: CodeServer, folder: Path
) -> None:
    wait_for(lambda: read_id(server) is not None, "the server answers")
    first, (pid,) = read_id(server), server.pids
    os.kill(pid, 9)
    wait_for(lambda: read_id(server) not in (None, first), "another server answers")
    second = read_id(server)
    (folder / "jobs" / "location.py").write_text(DEFINITIONS + "\n")
    wait_for(lambda: read_id(server) not in (None, second), "a server with the new code answers")
    assert len(server.pids) == 2  # the one before goes on until its runs have ended
    server.check()


def test_servers_that_end_at_once_are_reported(folder: Path) -> None:
    failing = CodeServer(folder / "workspace.yaml", lambda _: subprocess.Popen(["false"]), folder / "log")
    try:
        with pytest.raises(CodeServerFailedError, match="log"):
            wait_for(lambda: failing.check(), "the failure is reported")
    finally:
        failing.leave()
        wait_for(lambda: not failing.pids, "the last one has ended")
        failing.close()
    assert not failing.workspace.exists()
