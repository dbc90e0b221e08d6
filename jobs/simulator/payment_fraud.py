"""Fraud among simulated card payments: series of transactions of one card, each after one of four patterns.

card_testing    a few cents try the card out, then large payments follow within minutes, in many countries and shops
takeover        somebody pays with the card in one other country, from a device that it was never used with
price_probing   one online shop is asked for more each time, until it refuses
refund_abuse    one purchase is given back again and again, for more than was paid, with the card's own device

The columns of `actions` are those of `jobs.simulator.card_payments`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.payment_catalogue import COUNTRIES, ONLINE, PaymentCatalogue
from jobs.simulator.payment_profile import PaymentProfile


class Pattern(NamedTuple):
    """A kind of fraud: how many transactions a series has, and the mean pause between two, in `fraud_seconds`."""

    name: str
    shortest: int
    longest: int
    pause: float


PATTERNS = (
    Pattern("card_testing", 6, 16, 1),
    Pattern("takeover", 2, 6, 30),
    Pattern("price_probing", 4, 9, 3),
    Pattern("refund_abuse", 4, 8, 180),
)
# A pattern's number is its place here, from 1 on; 0 is no fraud.
TESTING, TAKEOVER, PROBING, REFUND_ABUSE = range(1, len(PATTERNS) + 1)
_SHORTEST, _LONGEST, _PAUSE = (
    np.array([least, *(getattr(pattern, name) for pattern in PATTERNS)])
    for name, least in (("shortest", 1), ("longest", 1), ("pause", 1.0))
)
# The first payments of a test try out whether the card works.
_TRIALS = 2


class FraudSeries:
    """Which beginnings are fraud, of which pattern and how long, and what that does to their transactions.

    One number a transaction: `pattern`, `of` (its beginning), `first` (where its beginning stands), `step` from 0 on.
    """

    def __init__(self, catalogue: PaymentCatalogue, profile: PaymentProfile, rng: np.random.Generator) -> None:
        self._catalogue, self._rng = catalogue, rng
        self._pause_micros = profile.fraud_seconds * 1e6
        weights = np.array([getattr(profile, pattern.name) for pattern in PATTERNS])
        self._shares = np.cumsum(weights / weights.sum())
        self.mean_length = float(np.average([(each.shortest + each.longest) / 2 for each in PATTERNS], weights=weights))

    def draw_patterns(self, is_fraud: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The pattern's number of each beginning, 0 where there is no fraud."""
        drawn = np.searchsorted(self._shares, self._rng.random(len(is_fraud)), side="right") + 1
        return np.where(is_fraud, np.minimum(drawn, len(PATTERNS)), 0)

    def draw_lengths(self, pattern: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many transactions each beginning has; 1 where there is no fraud."""
        return self._rng.integers(_SHORTEST[pattern], _LONGEST[pattern] + 1)

    def draw_pauses(self, pattern: NDArray[np.int64]) -> NDArray[np.float64]:
        """Microseconds before each transaction, by its pattern."""
        return self._rng.exponential(1.0, len(pattern)) * _PAUSE[pattern] * self._pause_micros

    def choose_merchants(self, pattern: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.int64]:
        """Any merchant, for the thief does not care; the same one for a series that works on one shop."""
        merchants = len(self._catalogue.merchant_weights)
        each = self._rng.integers(0, merchants, len(pattern))
        one = self._rng.integers(0, merchants, _count_beginnings(of))[of]
        return np.where((pattern == PROBING) | (pattern == REFUND_ABUSE), one, each)

    def choose_channels(self, pattern: NDArray[np.int64], actions: NDArray[np.void], of: NDArray[np.int64]) -> None:
        """Mostly online, where nobody asks for the card; refunds are where the purchase was."""
        chance = self._rng.random(_count_beginnings(of))[of]
        merchant = actions["merchant"]
        online = np.choose(pattern, [0.0, 0.8, 0.7, 1.0, self._catalogue.merchant_online[merchant]])
        each = np.where(pattern == TESTING, self._rng.random(len(pattern)), chance)
        channel = np.where(each < online, ONLINE, self._catalogue.present_channel[merchant])
        actions["channel"] = np.where(pattern > 0, channel, actions["channel"])

    def choose_countries(
        self, pattern: NDArray[np.int64], actions: NDArray[np.void], home: NDArray[np.uint8], of: NDArray[np.int64]
    ) -> None:
        """Anywhere for a test, one country that is not the card's for a takeover, else where shop and card are."""
        countries = len(COUNTRIES)
        away = self._rng.integers(1, countries, _count_beginnings(of))[of]
        merchants_own = self._catalogue.merchant_country[actions["merchant"]]
        own = np.where(actions["channel"] >= ONLINE, merchants_own, home)
        chosen = [
            actions["country"], self._rng.integers(0, countries, len(pattern)), (home + away) % countries,
            merchants_own, own,
        ]  # fmt: skip
        actions["country"] = np.choose(pattern, chosen)

    def change_amounts(
        self, pattern: NDArray[np.int64], euros: NDArray[np.float64], first: NDArray[np.int64], step: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """What is paid, in euro. `euros` are amounts as the merchants usually take them."""
        rng, total = self._rng, len(pattern)
        tested = np.where(step < _TRIALS, rng.uniform(0.5, 2.0, total), euros * rng.uniform(2.0, 5.0, total))
        begun = euros[first]
        probed = 0.3 * begun * rng.uniform(1.3, 1.8, total)[first] ** step
        refunded = np.where(step == 0, begun, begun * rng.uniform(1.0, 1.5, total))
        return np.choose(pattern, [euros, tested, euros * rng.uniform(1.5, 4.0, total), probed, refunded])


def _count_beginnings(of: NDArray[np.int64]) -> int:
    """How many beginnings there are, each of which has transactions."""
    return int(of[-1]) + 1 if len(of) else 0
