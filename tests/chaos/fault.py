"""What a fault is, and what all of them say and demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.supervision.model import Phase
from tests.chaos.live_platform import ChaosError, LivePlatform


@dataclass(frozen=True)
class Fault:
    """One row of the failure table. `shows` are the phases that the supervisor must show, in order, others between."""

    name: str
    strike: Callable[[LivePlatform], None]
    shows: tuple[Phase, ...]


def say(platform: LivePlatform, command: str) -> None:
    """Calls a command of `headrace` for the group."""
    done = platform.run(command, platform.group.name)
    demand(done.returncode == 0, f"headrace {command} said: {done.stderr}")


def demand(truth: bool, otherwise: str) -> None:
    """Raises `ChaosError` where it is not true."""
    if not truth:
        raise ChaosError(otherwise)
