"""Logs that a living process appends to stay small, and it goes on writing to them."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.platform.services import Services
from resources import log_files
from resources.log_files import bound_logs
from resources.settings import Settings

WRITER = """
import sys
for line in sys.stdin:
    print(line.strip(), flush=True)
    print("written", file=sys.stderr, flush=True)
"""


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "_LIMIT_BYTES", 100)


def test_a_log_that_cannot_be_copied_stays(tmp_path: Path) -> None:
    log = tmp_path / "dagster-daemon.log"
    log.write_text("x" * 200)
    (tmp_path / "dagster-daemon.log.1").mkdir()
    bound_logs(tmp_path)
    assert log.read_text() == "x" * 200


def test_a_full_disk_gets_the_space_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = tmp_path / "dagster-daemon.log"
    log.write_text("x" * 200)
    monkeypatch.setattr(shutil, "copyfile", fail)
    bound_logs(tmp_path)
    assert log.read_text() == ""


@pytest.mark.parametrize("name", ["dagster-daemon.log", "class-archive.log", "spark/stream-clickstream.out"])
def test_a_log_is_emptied_under_its_writer_and_what_it_had_is_kept_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with (
        path.open("ab") as output,
        subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
        ) as writer,
    ):
        assert writer.stdin is not None and writer.stderr is not None
        bound_logs(tmp_path)
        writer.stdin.write("a" * 200 + "\n")
        writer.stdin.flush()
        assert writer.stderr.readline() == "written\n"
        bound_logs(tmp_path)
        assert path.read_bytes() == b""
        assert path.with_name(f"{path.name}.1").read_text() == "a" * 200 + "\n"
        writer.stdin.write("b\n")
        writer.stdin.close()
        writer.wait()
    bound_logs(tmp_path)
    assert path.read_text() == "b\n"


def test_a_file_of_log4j_is_left_to_log4j(tmp_path: Path) -> None:
    path = tmp_path / "spark" / "stream-clickstream.log"
    path.parent.mkdir()
    path.write_text("a" * 200)
    bound_logs(tmp_path)
    assert len(path.read_text()) == 200


def test_the_platform_looks_at_its_logs_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class IdleServer:
        def __init__(self, *_: object) -> None:
            pass

        def check(self) -> None:
            pass

    monkeypatch.setattr("jobs.platform.services.CodeServer", IdleServer)
    (tmp_path / "logs").mkdir()
    services = Services(Settings(home=tmp_path), {})
    path = services.log_path("dagster-daemon")
    path.write_text("a" * 200)
    services.check()
    assert path.read_text() == ""
