"""The demonstration waits as long as something moves, and says what does not."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from jobs.platform import demonstration
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


def test_what_stands_still_is_named(demo: demonstration._Demo, clock: Clock) -> None:
    counts = count_up(clock, 300.0, most=2)
    with pytest.raises(NotReadyError, match=r"five tables: 2 of 5, and nothing has moved for 360 s"):
        demo.wait_for("five tables", lambda: next(counts))
    assert 960 <= clock.now < 970
