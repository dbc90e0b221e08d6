"""The simulated shop: sessions that begin at random and walk through the shop with think-time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.begun_actions import BegunActions
from jobs.simulator.catalogue import Catalogue, build_catalogue
from jobs.simulator.encoding import Encoder
from jobs.simulator.profile import ShopProfile
from jobs.simulator.shopper import SessionLibrary, build_library
from jobs.simulator.simulated_topic import SimulatedTopic
from jobs.simulator.tastes import Tastes, build_tastes

_SECOND = 1_000_000
_ACTION = np.dtype(
    [
        ("at", "i8"),
        ("user", "u4"),
        ("session", "u4"),
        ("product", "u2"),
        ("event_type", "u1"),
        ("quantity", "u1"),
        ("device", "u1"),
    ]
)


class _Sessions(BegunActions):
    """Actions of all shoppers."""

    def __init__(
        self, catalogue: Catalogue, tastes: Tastes, library: SessionLibrary, profile: ShopProfile, seed: int
    ) -> None:
        super().__init__(library.mean_length, _ACTION, np.random.default_rng([seed, 1]))
        self._catalogue, self._tastes, self._library, self._profile = catalogue, tastes, library, profile
        self._begun = 0

    def _begin(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        rng, catalogue, library, profile = self._rng, self._catalogue, self._library, self._profile
        drawn = rng.integers(len(library.length), size=count)
        length, slots = library.length[drawn], library.slots[drawn]
        total = int(length.sum())
        first = np.cumsum(length) - length
        session = np.repeat(np.arange(count), length)
        step = np.arange(total) - np.repeat(first - library.first[drawn], length)
        choices = rng.random(int(slots.sum()))
        popular = np.searchsorted(catalogue.product_weights, choices, side="right")
        think = np.exp(rng.normal(0.0, 1.0, total) * profile.think_spread) * (profile.think_seconds * _SECOND)
        # At least 2 ms, for most timestamps are in milliseconds and a session's events must not share one.
        think = np.maximum(think, 2000.0)
        if count:
            think[first] = rng.uniform(begin, end, count) - begin
        passed = np.cumsum(think)
        started = passed[first] - think[first] if count else passed
        user = np.searchsorted(catalogue.user_weights, rng.random(count), side="right")
        products = self._tastes.draw(choices, popular, user, slots)
        # Most sessions are on the customer's own device.
        other = np.searchsorted(catalogue.device_weights, rng.random(count), side="right")
        device = np.where(rng.random(count) < 0.85, catalogue.user_device[user], other)
        actions = np.empty(total, _ACTION)
        actions["at"] = begin + (passed - np.repeat(started, length)).astype(np.int64)
        actions["user"] = user[session]
        actions["session"] = (session + self._begun) & 0xFFFFFFFF
        actions["product"] = products[np.repeat(np.cumsum(slots) - slots, length) + library.slot[step]]
        actions["event_type"] = library.event_type[step]
        actions["quantity"] = library.quantity[step]
        actions["device"] = device[session]
        self._begun += count
        return actions


class Shop(SimulatedTopic):
    """One run of the shop."""

    action: ClassVar[np.dtype[np.void]] = _ACTION

    def __init__(self, profile: ShopProfile, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        super().__init__(profile, seed)
        self._shop = profile
        self._catalogue = build_catalogue(profile, np.random.default_rng([seed, 0]))
        self._tastes = build_tastes(self._catalogue, profile.taste, np.random.default_rng([seed, 8]))
        self._library = build_library(profile, seed)

    def _open_actions(self) -> _Sessions:
        return _Sessions(self._catalogue, self._tastes, self._library, self._shop, self.seed)

    def _open_encoder(self, run: int) -> Encoder:
        return Encoder(self._catalogue, self.seed, run, self._shop.without_revenue)
