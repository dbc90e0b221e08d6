"""The archive of Spark's classes: who uses it, and when, by whom and how often it is made."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jobs.platform.class_archiving import ClassArchiving
from resources.settings import Settings
from resources.spark import class_archive
from resources.spark.class_archive import archive_path, build_archive, is_current, jvm_options
from resources.spark.configuration import spark_conf


def test_without_an_archive_nothing_is_asked_of_the_jvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert jvm_options() == []
    archive_path().write_bytes(b"")
    (option, *silent) = jvm_options()
    assert option == f"-XX:SharedArchiveFile={archive_path()}"
    assert all("=off" in word for word in silent)
    assert option in spark_conf(Settings(), [])["spark.driver.extraJavaOptions"].split()


def test_set_up_does_not_make_it() -> None:
    command = ["make", "--dry-run", "--always-make", "setup"]
    root = Path(__file__).parents[2]
    recipes = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "resources.jars" in recipes
    assert "class_archive" not in recipes


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """An environment of its own, whose application is a file; returns the drafts that were made."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    drafts: list[Path] = []

    def run_application(folder: Path, draft: Path) -> None:
        assert jvm_options() == []
        draft.write_bytes(b"classes")
        drafts.append(draft)

    monkeypatch.setattr(class_archive, "_run_application", run_application)
    return drafts


def test_an_archive_of_another_java_or_other_jars_is_made_anew(
    environment: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not is_current()
    assert build_archive()
    assert is_current()
    other = tmp_path / "jars.lock"
    other.write_text("spark a/b-1.jar 1 00")
    monkeypatch.setattr(class_archive, "JARS_LOCK", other)
    assert not is_current()
    assert jvm_options() != []  # the JVM itself judges whether it can use the one that is there
    assert build_archive()
    assert is_current()


def test_one_that_cannot_be_made_leaves_the_old_one(
    environment: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_path().write_bytes(b"old")

    def fail(folder: Path, draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(class_archive, "_run_application", fail)
    assert class_archive.main([]) == 1
    assert "could not be archived" in capsys.readouterr().out
    assert archive_path().read_bytes() == b"old"
    assert list(tmp_path.glob(".spark-classes*")) == []


def test_a_draft_that_a_kill_left_is_removed(environment: list[Path], tmp_path: Path) -> None:
    left = tmp_path / ".spark-classes.jsa.4711"
    left.write_bytes(b"half")
    assert build_archive()
    assert not left.exists()


def test_two_at_once_make_one(environment: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys; sys.prefix = sys.argv[1]\n"
        "from resources.spark import class_archive\n"
        "with class_archive._lock() as is_ours:\n"
        "    print(is_ours, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not build_archive()
        assert environment == []
        other.communicate()
    assert build_archive()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


_MAKING = """
import os, pathlib, subprocess, sys, time
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
child = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[1], str(child.pid)).touch()
time.sleep(600)
"""


def test_it_is_started_once_after_the_streams_have_settled_and_ends_with_the_platform(tmp_path: Path) -> None:
    started = tmp_path / "started"
    started.mkdir()
    settled = [True, False, True, True]
    archiving = ClassArchiving(
        tmp_path / "log", lambda: settled.pop(0) if settled else True,
        (sys.executable, "-c", _MAKING, str(started)), settled_seconds=0.05,
    )  # fmt: skip

    def look() -> bool:
        archiving.look()
        return not settled and len(list(started.iterdir())) == 2

    _wait_for(look)
    processes = [psutil.Process(int(path.name)) for path in started.iterdir()]
    for _ in range(20):
        archiving.look()
    archiving.stop()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert len(list(started.iterdir())) == 2


def test_it_is_not_started_before_the_streams_have_settled_for_some_time(tmp_path: Path) -> None:
    archiving = ClassArchiving(tmp_path / "log", lambda: True, ("false",), settled_seconds=3600.0)
    archiving.look()
    archiving.stop()
    assert not (tmp_path / "log").exists()


def test_a_making_that_fails_is_not_repeated_and_harms_nobody(tmp_path: Path) -> None:
    archiving = ClassArchiving(
        tmp_path / "log", lambda: True, ("/bin/sh", "-c", "echo no Java; exit 1"), settled_seconds=0.0
    )

    def has_failed() -> bool:
        archiving.look()
        log = tmp_path / "log"
        return log.exists() and bool(log.read_text())

    _wait_for(has_failed)
    for _ in range(20):
        archiving.look()
    archiving.stop()
    assert (tmp_path / "log").read_text() == "no Java\n"


def test_streams_that_cannot_be_seen_do_not_end_the_platform(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def unreachable() -> bool:
        raise OSError("no database")

    ClassArchiving(tmp_path / "log", unreachable, ("false",), settled_seconds=0.0).look()
    assert "no database" in caplog.text
    assert not (tmp_path / "log").exists()
