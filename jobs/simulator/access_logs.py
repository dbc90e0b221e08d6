"""Simulated access logs: visits to sites, log-ins of people who may, and attacks.

Three steps, as for each simulated topic: actions, deliveries, records (`jobs.simulator.simulated_topic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.access_attacks import (
    ACCEPTED_KEY,
    ACCEPTED_PASSWORD,
    ACTION,
    FAILED,
    MISSING_PATHS,
    REQUEST,
    Attacks,
    PlantedAttack,
)
from jobs.simulator.access_log_lines import LogLineEncoder
from jobs.simulator.access_log_profile import AccessLogProfile
from jobs.simulator.begun_actions import BegunActions
from jobs.simulator.simulated_topic import SimulatedTopic

_SECOND = 1_000_000
# A visit is cut here: without a bound one of them would hold as many requests as it likes.
_LONGEST_VISIT = 60
_MOST_MISTYPED = 5


class _Lines(BegunActions):
    """Lines of all hosts. A beginning is a visit, a log-in or an attack."""

    def __init__(self, profile: AccessLogProfile, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self._profile, self.attacks = profile, Attacks(profile, rng)
        visit = sum((1 - 1 / profile.visit_pages) ** n for n in range(_LONGEST_VISIT))
        mistyped = np.minimum(np.arange(1, 40), _MOST_MISTYPED) @ (0.5 ** np.arange(1, 40))
        honest = visit * (1 - profile.logins) + profile.logins * (1 + profile.mistyped * mistyped)
        series = self.attacks.mean_length
        self._share = profile.attacks * honest / (series - profile.attacks * (series - honest))
        super().__init__(honest * (1 - self._share) + series * self._share, ACTION, rng)
        weights = 1 / np.arange(1, profile.pages + 1) ** profile.page_skew
        self._pages = np.cumsum(weights / weights.sum())
        self._sizes = profile.page_bytes * np.exp(np.random.default_rng([seed, 0]).normal(0, 1, profile.pages))
        self._weekday = 7 / (5 + 2 * profile.weekend)

    def _begin(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        rng, profile = self._rng, self._profile
        is_weekend = datetime.fromtimestamp(begin / _SECOND, UTC).weekday() >= 5
        count = int(rng.poisson(count * self._weekday * (profile.weekend if is_weekend else 1)))
        attacks = int(rng.binomial(count, self._share))
        logins = int(rng.binomial(count - attacks, profile.logins))
        parts = self.attacks.draw(attacks, begin, end)
        return np.concatenate([self._visit(count - attacks - logins, begin, end), self._log_in(logins, begin, end),
                               *parts])  # fmt: skip

    def _visit(self, visits: int, begin: int, end: int) -> NDArray[np.void]:
        rng, profile = self._rng, self._profile
        length = np.minimum(rng.geometric(1 / profile.visit_pages, visits), _LONGEST_VISIT)
        of = np.repeat(np.arange(visits), length)
        actions = np.zeros(len(of), ACTION)
        actions["at"] = self._spread(length, of, rng.uniform(begin, end, visits), profile.think_seconds)
        actions["network"] = rng.integers(0, profile.visitors, visits)[of]
        actions["host"] = rng.integers(0, profile.hosts, visits)[of]
        actions["kind"] = REQUEST
        page = np.searchsorted(self._pages, rng.random(len(of)), side="right").clip(max=profile.pages - 1)
        is_missing, is_error = (rng.random(len(of)) < rate for rate in (profile.broken_links, profile.server_errors))
        actions["path"] = np.where(is_missing, MISSING_PATHS + page, page)
        actions["status"] = np.select([is_missing, is_error], [404, 502], 200)
        size = self._sizes[page] * np.exp(rng.normal(0, 0.2, len(of)))
        actions["bytes"] = np.where(is_missing | is_error, 196, np.minimum(size, 2**32 - 1))
        return actions

    def _log_in(self, logins: int, begin: int, end: int) -> NDArray[np.void]:
        rng, profile = self._rng, self._profile
        is_mistyped = rng.random(logins) < profile.mistyped
        failures = np.where(is_mistyped, np.minimum(rng.geometric(0.5, logins), _MOST_MISTYPED), 0)
        of = np.repeat(np.arange(logins), failures + 1)
        actions = np.zeros(len(of), ACTION)
        actions["at"] = self._spread(failures + 1, of, rng.uniform(begin, end, logins), 6.0)
        person = rng.integers(0, min(profile.visitors, 40), logins)
        actions["network"], actions["user"] = person[of], 100 + person[of]
        actions["host"] = rng.integers(0, profile.hosts, logins)[of]
        actions["kind"] = FAILED
        actions["kind"][np.cumsum(failures + 1) - 1] = np.where(is_mistyped, ACCEPTED_PASSWORD, ACCEPTED_KEY)
        return actions

    def _spread(
        self, length: NDArray[np.int64], of: NDArray[np.int64], starts: NDArray[np.float64], seconds: float
    ) -> NDArray[np.int64]:
        """When each line is written, in microseconds: log-normal pauses within a visit."""
        first = np.cumsum(length) - length
        pauses = np.exp(self._rng.normal(0.0, 1.0, len(of))) * (seconds * _SECOND)
        pauses[first] = 0.0
        passed = np.cumsum(pauses)
        return np.asarray(starts[of] + (passed - passed[first][of]), dtype=np.int64)


class AccessLogs(SimulatedTopic):
    """One run of the simulated access logs."""

    action: ClassVar[np.dtype[np.void]] = ACTION
    profile: AccessLogProfile

    def __init__(self, profile: AccessLogProfile, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        super().__init__(profile, seed)
        self._encoder = LogLineEncoder(profile)
        self._lines: _Lines | None = None

    @property
    def planted(self) -> Sequence[PlantedAttack]:
        """The attacks whose lines have been handed out, or would be next."""
        return () if self._lines is None else tuple(self._lines.attacks.planted)

    def find_network(self, number: int) -> str:
        """The attacker's network that has this number, as the topic spells it."""
        return self._encoder.find_network(number, is_attacker=True)

    def _open_actions(self) -> _Lines:
        self._lines = _Lines(self.profile, self.seed)
        return self._lines

    def _open_encoder(self, run: int) -> LogLineEncoder:
        return self._encoder
