"""The demonstration waits as long as something moves, and says what does not."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from rich.console import Console

from jobs.platform import demonstration
from jobs.platform.services import list_batch_runs
from jobs.supervision.run_records import GROUP_TAG
from platform_assets.errors import NotReadyError
from resources.settings import Settings


class Clock(threading.Event):
    """A time that goes on by waiting."""

    now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


class RunningServices:
    """Services of which none ends: to start them takes half a minute, and what is waited for is made here."""

    def check(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(demonstration, "time", SimpleNamespace(monotonic=lambda: found.now))
    monkeypatch.setattr(demonstration, "prepare_environment", lambda _settings: {})
    return found


@pytest.fixture
def demo(settings: Settings, clock: Clock) -> demonstration._Demo:
    return demonstration._Demo(settings, cast("Any", RunningServices()), clock, Console(file=io.StringIO()))


def count_up(clock: Clock, every_seconds: float, most: int = 9) -> Iterator[tuple[int, int]]:
    while True:
        yield min(most, int(clock.now / every_seconds)), 5


def test_what_moves_slowly_is_waited_for(demo: demonstration._Demo, clock: Clock) -> None:
    counts = count_up(clock, 300.0)
    demo.wait_for("five tables", lambda: next(counts))
    assert clock.now >= 1500


def test_a_run_of_checks_is_waited_for_and_a_stream_is_not() -> None:
    """Cut off, it would leave the checks without a verdict; a stream's run ends by the stop alone."""
    with dg.DagsterInstance.ephemeral() as instance:
        create_run_for_test(instance, job_name="streaming", status=dg.DagsterRunStatus.STARTED, tags={GROUP_TAG: "g"})
        assert list_batch_runs(instance) == []
        run = create_run_for_test(instance, job_name="asset_checks", status=dg.DagsterRunStatus.STARTED)
        assert [each.run_id for each in list_batch_runs(instance)] == [run.run_id]


def test_what_stands_still_is_named(demo: demonstration._Demo, clock: Clock) -> None:
    counts = count_up(clock, 300.0, most=2)
    with pytest.raises(NotReadyError, match=r"five tables: 2 of 5, and nothing has moved for 600 s"):
        demo.wait_for("five tables", lambda: next(counts))
    assert 1200 <= clock.now < 1210
