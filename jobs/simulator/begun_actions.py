"""Actions that go on for a while after they have begun: a session's, a round of payments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.daily_swing import find_intensity

_SECOND = 1_000_000


class BegunActions(ABC):
    """`Actions` of many people, in time order. Keeps the later ones of what has begun."""

    def __init__(self, mean_length: float, action: np.dtype[np.void], rng: np.random.Generator) -> None:
        """`mean_length`: actions that follow from one beginning, on average."""
        self._mean_length = mean_length
        self._rng = rng
        self._to_come = np.empty(0, action)

    def blocks(
        self, begin: int, events_per_second: float, swing: float, least: int
    ) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Implements `Actions.blocks`."""
        begun_per_second = events_per_second / self._mean_length
        seconds = min(max(2.0, least / events_per_second), 600.0)
        at = begin
        while True:
            count = int(self._rng.poisson(begun_per_second * seconds * find_intensity(at, swing)))
            end = at + round(seconds * _SECOND)
            actions = np.concatenate([self._to_come, self._begin(count, at, end)])
            due = actions["at"] < end
            self._to_come = actions[~due]
            actions = actions[due]
            yield end, actions[np.argsort(actions["at"], kind="stable")]
            at = end

    @abstractmethod
    def _begin(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        """All actions of `count` beginnings in [`begin`, `end`), in any order."""
