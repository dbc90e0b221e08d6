"""Two hosts of one group on two machines: the one that slept between its check and its commit writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable

import psutil
import pytest

from jobs.supervision.lease import read_report
from jobs.supervision.model import ExitKind, Heartbeat
from tests.integration.streaming_definitions import GROUP
from tests.integration.supervised_platform import Platform, wait_for


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_host_that_sleeps_before_its_commit_and_is_replaced_writes_nothing_when_it_wakes(
    platform: Platform,
    start_host: Callable[[str, int], subprocess.Popen[bytes]],
    shoppers: threading.Event,
) -> None:
    """It sleeps at its very first commit, before which the table has no transaction to compare; its successor later."""
    first = start_host("machine-a", 1)
    second = _replace(platform, first, lambda: start_host("machine-b", 4))
    third = _replace(platform, second, lambda: start_host("machine-c", 0))

    rows = len(platform.coordinates())
    wait_for(lambda: len(platform.coordinates()) > rows, "the last one goes on")
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    third.terminate()
    assert third.wait(120) == 0
    platform.prove_complete()


def _replace(
    platform: Platform, sleeper: subprocess.Popen[bytes], start_successor: Callable[[], subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    """Wakes the sleeper when its successor has committed; returns the successor."""
    wait_for(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED or None, "it sleeps before a commit")
    rows = len(platform.coordinates())
    replaced = _beat(platform)
    successor = start_successor()

    def has_committed() -> bool:
        assert successor.poll() is None, f"the successor has ended:\n{_read_end_of_log(platform)}"
        return len(platform.coordinates()) > rows

    wait_for(has_committed, "the successor has committed what the first had in hand")
    os.kill(sleeper.pid, signal.SIGCONT)
    # Refused at its commit (1), or stopped by its next heartbeat (0), whichever comes first.
    assert sleeper.wait(120) in (0, 1)
    ended = next(run for run in platform.runs() if run.run_id == replaced.run_id)
    assert ended.exit_kind is ExitKind.OWNED
    assert _beat(platform).epoch == replaced.epoch + 1
    return successor


def _read_end_of_log(platform: Platform) -> str:
    newest = max(platform.settings.home.glob("machine-*.log"), key=lambda path: path.name)
    return newest.read_text()[-6000:]


def _beat(platform: Platform) -> Heartbeat:
    report = read_report(platform.instance, GROUP.name)
    assert report is not None
    return report.heartbeat
