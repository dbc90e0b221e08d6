"""One run of a simulated topic, as the command and the Dagster job start it."""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from jobs.simulator.daily_swing import find_mean_intensity
from jobs.simulator.delivery_habits import DeliveryHabits
from jobs.simulator.producer import Pace
from jobs.simulator.profile import ShopProfile
from jobs.simulator.simulated_topic import Record, SimulatedTopic
from jobs.simulator.simulated_topics import Simulation, find_of_profile
from platform_assets.errors import UsageError

Profile = TypeVar("Profile", bound=DeliveryHabits)

_LIVE_RATE = 100.0
_HISTORY_RATE = 2.0


def now_microseconds() -> int:
    """The wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class SimulationPlan:
    """How long, how much, how fast. Without `hours` the topic is live; with them it tells a history that ends now.

    `profile` says which topic it is. `rate` is records a second: of the wall clock when live (None: 100; infinity: as
    many as possible), of the topic's own time in a history (None: 2, or what `count` asks for). `count` ends a live run
    after that many records; for a history it is the volume, met on average. `duration_seconds` bounds a live run.
    `speed` paces a history (3600: an hour a second; None: as fast as possible). Raises `UsageError` for values that
    cannot be used together.
    """

    profile: DeliveryHabits = field(default_factory=ShopProfile)
    seed: int = field(default_factory=lambda: secrets.randbelow(2**31))
    rate: float | None = None
    hours: float | None = None
    duration_seconds: float | None = None
    count: int | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "hours", "duration_seconds", "count", "speed"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and (math.isfinite(value) or name == "rate")):
                raise UsageError(f"{name} is {value}. Give a number above 0.")
        if self.hours is None and self.speed is not None:
            raise UsageError("speed is for a history or a replay. Give hours as well, or leave speed out.")
        if self.hours is not None:
            if self.duration_seconds is not None:
                raise UsageError("duration is for live events. Give hours or duration, not both.")
            if self.rate is not None and (self.count is not None or math.isinf(self.rate)):
                raise UsageError("A history's volume is a finite rate or a count. Give one of them.")

    @property
    def pace(self) -> Pace:
        """When a record leaves, for `send_records`."""
        if self.hours is not None:
            return self.speed
        return None if self.rate is not None and math.isinf(self.rate) else "wall_clock"

    @property
    def total(self) -> int | None:
        """Records to expect, for a progress bar; None when only a person will end it."""
        if self.hours is not None:
            return self.count or round(self.hours * 3600 * (self.rate or _HISTORY_RATE))
        if self.count is not None:
            return self.count
        if self.duration_seconds is not None and self.pace is not None:
            return round(self.duration_seconds * (self.rate or _LIVE_RATE))
        return None

    @property
    def simulation(self) -> Simulation:
        """What is simulated."""
        return find_of_profile(self.profile)

    def open(self) -> SimulatedTopic:
        """A run of the topic, with the plan's profile and seed. Raises `UsageError` for a negative seed."""
        return self.simulation.open(self.profile, self.seed)

    def records(self, topic: SimulatedTopic, companion: str = "") -> Iterator[Record]:
        """The records of this plan, beginning now, from `topic`, which must be of its profile and seed.

        `companion` is the broker's name of the topic for what follows from them (`Simulation.name_companion`); empty:
        such records are left out.
        """
        if companion:
            topic.accompany(companion)
        now = now_microseconds()
        if self.hours is not None:
            start = now - round(self.hours * 3600e6)
            rate = self.rate or _HISTORY_RATE
            if self.count is not None:  # a part of a day may be its busy hours, or its quiet ones
                rate = self.count / (self.hours * 3600) / find_mean_intensity(start, now, self.profile.daily_swing)
            return topic.history(start, now, rate)
        paced = None if self.pace is None else self.rate or _LIVE_RATE
        records = topic.live(now, paced, self.duration_seconds, now_microseconds)
        return itertools.islice(records, self.count) if self.count is not None else records


def parse_malformed(profile: Profile, texts: Sequence[str]) -> Profile:
    """The profile with `RATE` (all malformed records together) or `REASON=RATE` settings applied, in order.

    Raises `UsageError` for an unknown reason or a rate that is no number from 0 to 1.
    """
    for text in texts:
        reason, separator, number = text.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            raise UsageError(f"malformed is {text!r}. Give a rate from 0 to 1, or REASON=RATE.") from None
        if not separator:
            profile = profile.with_malformed(rate)
        elif reason in profile.faults:
            profile = profile.with_rates({reason: rate})
        else:
            raise UsageError(f"malformed is {text!r}. The reasons are {', '.join(profile.faults)}.")
    return profile
