"""What attackers do to simulated hosts, one series of lines an attack. Which ones there were is kept, to compare with.

| pattern | what it does |
|---|---|
| guessing | one network tries 15 to 60 passwords of a few users, seconds apart; one in ten gets in at the end |
| spread_guessing | 25 to 60 networks try the same user one to three times each, within an hour |
| slow_guessing | one network tries 20 to 40 passwords, some three minutes apart: too few for most limits |
| scans | one network asks a site for 40 to 200 paths that are not there, less than a second apart |
| bursts | one network asks a site for one page 900 to 1,500 times within a minute |
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.access_log_profile import PATTERNS, AccessLogProfile

GUESSING, SPREAD_GUESSING, SLOW_GUESSING, SCAN, BURST = range(len(PATTERNS))
REQUEST, FAILED, ACCEPTED_KEY, ACCEPTED_PASSWORD = range(4)
"""What a line says: a request, or of a log-in that it failed or succeeded."""

# What happens to a host, before anything happens to its line.
ACTION = np.dtype(
    [
        ("at", "i8"),
        ("network", "u4"),  # whose; attackers have numbers of their own
        ("bytes", "u4"),
        ("path", "u4"),
        ("host", "u2"),
        ("status", "u2"),
        ("user", "u2"),
        ("kind", "u1"),
        ("is_attack", "u1"),
    ]
)
# Paths from here on are not there: an attacker's list of them.
MISSING_PATHS = 100_000
ATTACKED_USERS = 12
_SECOND = 1_000_000
_FROM_TO = ((15, 60), (25, 60), (20, 40), (40, 200), (900, 1500))
# What is remembered of an endless run: more attacks than anybody compares.
_REMEMBERED = 100_000


@dataclass(frozen=True)
class PlantedAttack:
    """An attack: its pattern, the numbers of its networks, its first and last line in microseconds since 1970."""

    pattern: str
    networks: tuple[int, ...]
    first: int
    last: int


class Attacks:
    """Draws attacks. `planted` are those that it has drawn, the last of them."""

    def __init__(self, profile: AccessLogProfile, rng: np.random.Generator) -> None:
        weights = np.array([getattr(profile, pattern) for pattern in PATTERNS])
        self._weights, self._profile, self._rng = weights / weights.sum(), profile, rng
        self._networks = int(rng.integers(0, 2**16))
        self.planted: deque[PlantedAttack] = deque(maxlen=_REMEMBERED)
        middle = np.array([(least + most) / 2 for least, most in _FROM_TO])
        middle[SPREAD_GUESSING] *= 2  # one to three lines of each network
        self.mean_length = float((middle * self._weights).sum())

    def draw(self, count: int, begin: int, end: int) -> list[NDArray[np.void]]:
        """The lines of `count` attacks that begin in [`begin`, `end`)."""
        patterns = self._rng.choice(len(PATTERNS), count, p=self._weights)
        return [self._draw(int(pattern), int(self._rng.integers(begin, end))) for pattern in patterns]

    def _draw(self, pattern: int, begin: int) -> NDArray[np.void]:
        rng = self._rng
        size = int(rng.integers(_FROM_TO[pattern][0], _FROM_TO[pattern][1] + 1))
        networks = size if pattern == SPREAD_GUESSING else 1
        tries = rng.integers(1, 4, size) if pattern == SPREAD_GUESSING else np.ones(size, np.int64)
        actions = np.zeros(int(tries.sum()), ACTION)
        count = len(actions)
        numbers = (self._networks + np.arange(networks)) % 2**16
        self._networks += networks
        actions["is_attack"] = 1
        actions["network"] = np.repeat(numbers, tries) if networks > 1 else numbers[0]
        actions["host"] = rng.integers(0, self._profile.hosts)
        # An attacker's clock: uniform pauses, so that a series has the length that its pattern says.
        longest = {GUESSING: 8.0, SPREAD_GUESSING: 3600 / count, SLOW_GUESSING: 220.0, SCAN: 0.8, BURST: 55 / count}
        shortest = {SLOW_GUESSING: 170.0}.get(pattern, 0.2 * longest[pattern])
        pauses = rng.uniform(shortest, longest[pattern], count) * _SECOND
        actions["at"] = begin + np.cumsum(pauses).astype(np.int64)
        if pattern in (SCAN, BURST):
            self._ask(actions, pattern)
        else:
            actions["kind"] = FAILED
            actions["user"] = rng.integers(0, ATTACKED_USERS, count)
            if pattern == SPREAD_GUESSING:
                actions["user"] = actions["user"][0]
                actions["at"] = rng.permutation(actions["at"])
            elif rng.random() < 0.1:
                actions["kind"][-1] = ACCEPTED_PASSWORD
        first, last = int(actions["at"].min()), int(actions["at"].max())
        self.planted.append(PlantedAttack(PATTERNS[pattern], tuple(numbers.tolist()), first, last))
        return actions

    def _ask(self, actions: NDArray[np.void], pattern: int) -> None:
        rng, count = self._rng, len(actions)
        actions["kind"] = REQUEST
        if pattern == BURST:
            actions["path"], actions["status"] = rng.integers(0, self._profile.pages), 200
            actions["bytes"] = self._profile.page_bytes
            return
        actions["path"] = MISSING_PATHS + rng.permutation(2000)[:count]
        # Some of them are forbidden, or refused for their spelling.
        actions["status"] = rng.choice([404, 403, 400], count, p=[0.85, 0.1, 0.05])
        actions["bytes"] = 196
