"""Hosts with one instance and one lakehouse: a command of the one is refused while the streams of the other live."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.supervision.dagster_home import render_dagster_yaml
from jobs.supervision.lease import read_report
from resources.settings import Settings
from tests.integration.streaming_definitions import GROUP
from tests.integration.supervised_platform import ROOT, Platform, wait_for

COMMAND = """
import socket, sys
socket.gethostname = lambda: sys.argv[1]
from jobs.cli.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def shared_instance(tmp_path: Path) -> None:
    """Makes the Dagster home of `platform` one that a person has written, for all hosts."""
    home = tmp_path / "home" / "dagster"
    home.mkdir(parents=True)
    first_line, _, text = render_dagster_yaml(Settings(home=tmp_path)).partition("\n")
    assert "Written by Headrace" in first_line
    (home / "dagster.yaml").write_text(text)


@pytest.mark.usefixtures("shared_instance")
def test_commands_of_one_host_wait_for_the_end_of_the_streams_of_another(
    platform: Platform, start_host: Callable[[str, int], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    environment = platform.environment | {
        "HEADRACE_LAKEHOUSE": platform.settings.lakehouse,
        "HEADRACE_SUPERVISOR_INTERVAL_SECONDS": "1",
        "HEADRACE_STOP_GRACE_SECONDS": "1",
    }

    def start(host: str, *arguments: str) -> subprocess.Popen[str]:
        """A command on the host of this name, with a home of its own there."""
        command, pipe = [sys.executable, "-c", COMMAND, host, *arguments], subprocess.PIPE
        ours = environment | {"HEADRACE_HOME": str(tmp_path / host)}
        return subprocess.Popen(command, cwd=ROOT, env=ours, stdout=pipe, stderr=pipe, text=True)

    streams = start_host("machine-a", 0)
    wait_for(lambda: read_report(platform.instance, GROUP.name) is not None, "the streams of machine-a report")
    refused = [
        start("machine-b", "recompute", "sessions", "--because", "a test"),
        start("machine-c", "backup", str(tmp_path / "copy")),
        start("machine-d", "forget-user", "somebody", "--reason", "a test"),
    ]
    for command in refused:
        output, errors = command.communicate(timeout=120)
        assert command.returncode == 1, output + errors
        assert "clickstream is owned by run" in errors and f"pid {streams.pid} on machine-a" in errors
    assert streams.poll() is None
    assert not (tmp_path / "copy").exists() or not list((tmp_path / "copy").iterdir())

    streams.terminate()
    assert streams.wait(120) == 0
    command = start("machine-c", "backup", str(tmp_path / "copy"))
    output, errors = command.communicate(timeout=120)
    assert command.returncode == 0, output + errors
    assert (tmp_path / "copy" / "headrace_backup.json").exists()
