"""Simulated card payments: rounds of payments, what is given back, and fraud."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.begun_actions import BegunActions
from jobs.simulator.encoded_values import as_fractions, mix_ids
from jobs.simulator.fraud_reports import FraudReports
from jobs.simulator.fraud_rings import FraudRings
from jobs.simulator.payment_catalogue import (
    CHIP,
    CONTACTLESS,
    COUNTRIES,
    ONLINE,
    PRICES,
    WHOLE,
    PaymentCatalogue,
    build_payment_catalogue,
)
from jobs.simulator.payment_encoding import ACTION, PAYMENT, REFUND, REVERSAL, PaymentEncoder
from jobs.simulator.payment_fraud import REFUND_ABUSE, FraudSeries
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.simulated_topic import SimulatedTopic

_SECOND = 1_000_000
_DAY = 24 * 3600 * _SECOND
_WEEK = 7 * _DAY
# A round is cut here: without a bound one of them would hold as many payments as it likes.
_LONGEST_ROUND = 8
# Above this many hundredths of a euro a card must be put into the terminal.
_CONTACTLESS_UP_TO = 5000
# At least 2 ms, for most timestamps are in milliseconds and two payments of a round must not share one.
_LEAST_MICROS = 2000.0
# Whose device it is, in the high bits of its number, so that no two are the same one.
_TERMINAL, _OWN, _STRANGE, _OTHER = (np.uint32(kind << 30) for kind in range(4))
_TERMINALS_OF_ONE_MERCHANT = 4
# What an action holds. No amount of the profile comes near to it.
_LARGEST_AMOUNT = 4_000_000_000


class _Payments(BegunActions):
    """Transactions of all cards. A beginning is a round of payments, or a series of a thief's."""

    def __init__(self, catalogue: PaymentCatalogue, profile: PaymentProfile, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self._catalogue, self._profile = catalogue, profile
        self._fraud = FraudSeries(catalogue, profile, rng)
        self._rings = FraudRings(profile, profile.population or seed)
        rounds = sum((1 - 1 / profile.round_payments) ** n for n in range(_LONGEST_ROUND))
        series = self._fraud.mean_length
        self._share = profile.fraud * rounds / (series - profile.fraud * (series - rounds))
        mean = (1 - self._share) * rounds * (1 + profile.reversals * (1 - profile.refunds)) + self._share * series
        super().__init__(mean, ACTION, rng)
        self._salt, self._device_salt = np.random.default_rng([seed, 5]).integers(0, 2**63, 2).tolist()

    def _begin(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        rng, profile, fraud = self._rng, self._profile, self._fraud
        begun = fraud.draw_patterns(rng.random(count) < self._share)
        rounds = np.minimum(rng.geometric(1 / profile.round_payments, count), _LONGEST_ROUND)
        length = np.where(begun > 0, fraud.draw_lengths(begun), rounds)
        first = np.cumsum(length) - length
        of = np.repeat(np.arange(count), length)
        pattern, step = begun[of], np.arange(len(of)) - first[of]
        actions = np.zeros(len(of), ACTION)
        actions["is_fraud"] = pattern > 0
        starts = rng.uniform(begin, end, count)
        actions["at"] = self._spread(first, of, pattern, starts)
        in_series = np.flatnonzero(pattern)
        last = (first + length - 1)[of[in_series]]
        # Rounded up, so that no series ends before its last transaction.
        at: NDArray[np.int64] = actions["at"]
        actions["remaining"][in_series] = -((at[in_series] - at[last]) // _SECOND)
        card = np.searchsorted(self._catalogue.card_weights, rng.random(count), side="right")
        # Stolen cards are any cards: most of them are used little.
        stolen = rng.integers(0, len(self._catalogue.card_weights), count)
        actions["card"] = np.where(begun > 0, stolen, card)[of]
        self._choose_places(actions, pattern, of)
        self._set_amounts(actions, pattern, first[of], step)
        strange = self._rings.choose_devices(rng.integers(0, 2**30, count, dtype=np.uint32), starts)[of]
        has_own = (pattern == 0) | (pattern == REFUND_ABUSE)
        actions["device"] = np.where(has_own, self._name_devices(actions), _STRANGE | strange)
        self._give_back(actions, pattern, step)
        return np.concatenate([actions, self._reverse(actions)])

    def _give_back(self, actions: NDArray[np.void], pattern: NDArray[np.int64], step: NDArray[np.int64]) -> None:
        """Some payments become refunds, of all or a part; after its purchase all of a series that abuses refunds."""
        rng, total = self._rng, len(actions)
        given_back = (pattern == 0) & (rng.random(total) < self._profile.refunds)
        actions["kind"] = np.where(given_back | ((pattern == REFUND_ABUSE) & (step > 0)), REFUND, PAYMENT)
        part = np.where(rng.random(total) < 0.7, 1.0, rng.uniform(0.1, 1.0, total))
        actions["amount"] = np.where(given_back, self._round(actions["amount"] * part, actions), actions["amount"])

    def _spread(
        self, first: NDArray[np.int64], of: NDArray[np.int64], pattern: NDArray[np.int64], starts: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """When each transaction happens, in microseconds."""
        pause = np.exp(self._rng.normal(0.0, 1.0, len(of))) * (self._profile.round_minutes * 60 * _SECOND)
        gap = np.maximum(np.where(pattern > 0, self._fraud.draw_pauses(pattern), pause), _LEAST_MICROS)
        gap[first] = 0.0
        passed = np.cumsum(gap)
        return np.asarray(starts[of] + (passed - passed[first][of]), dtype=np.int64)

    def _choose_places(self, actions: NDArray[np.void], pattern: NDArray[np.int64], of: NDArray[np.int64]) -> None:
        """Merchant, channel and country: at home or where the card travels, but the merchant's own country online."""
        rng, catalogue, total = self._rng, self._catalogue, len(actions)
        popular = np.searchsorted(catalogue.merchant_weights, rng.random(total), side="right")
        actions["merchant"] = np.where(pattern > 0, self._fraud.choose_merchants(pattern, of), popular)
        merchant, place = actions["merchant"], self._find_cards(actions)
        is_online = rng.random(total) < catalogue.merchant_online[merchant]
        actions["channel"] = np.where(
            is_online, catalogue.online_channel[merchant], catalogue.present_channel[merchant]
        )
        actions["country"] = np.where(is_online, catalogue.merchant_country[merchant], place)
        self._fraud.choose_channels(pattern, actions, of)
        self._fraud.choose_countries(pattern, actions, place, of)
        actions["names_country"] = rng.random(total) >= self._profile.without_country

    def _find_cards(self, actions: NDArray[np.void]) -> NDArray[np.uint8]:
        """The country in which each card is: drawn for each week by the card's number, so that it stays there."""
        home = self._catalogue.card_home[actions["card"]]
        week = (actions["at"] // _WEEK).astype(np.uint64)
        drawn = mix_ids(week << np.uint64(32) | actions["card"].astype(np.uint64), self._salt)
        travels = as_fractions(drawn) < self._profile.travellers
        return np.where(travels, drawn % np.uint64(len(COUNTRIES)), home).astype(np.uint8)

    def _set_amounts(
        self, actions: NDArray[np.void], pattern: NDArray[np.int64], first: NDArray[np.int64], step: NDArray[np.int64]
    ) -> None:
        """Log-normal around what the merchant takes, and what a thief makes of that."""
        merchant = actions["merchant"]
        level = np.exp(self._rng.normal(0.0, 1.0, len(actions)) * self._catalogue.merchant_spread[merchant])
        euros = self._fraud.change_amounts(pattern, self._catalogue.merchant_middle[merchant] * level, first, step)
        is_present = (actions["channel"] == CHIP) & (euros * 100 <= _CONTACTLESS_UP_TO)
        actions["channel"] = np.where(is_present, CONTACTLESS, actions["channel"])
        actions["amount"] = self._round(euros * 100 * PRICES[actions["country"]], actions)

    @staticmethod
    def _round(hundredths: NDArray[np.float64], actions: NDArray[np.void]) -> NDArray[np.uint32]:
        """Amounts as whole numbers of the currency's smallest coin, at least one."""
        coin = np.where(WHOLE[actions["country"]], 100, 1)
        amounts = np.maximum(np.rint(hundredths / coin), 1) * coin
        return np.asarray(np.minimum(amounts, _LARGEST_AMOUNT), dtype=np.uint32)

    def _name_devices(self, actions: NDArray[np.void]) -> NDArray[np.uint32]:
        """A terminal of the merchant; online the customer's own device, or another one on a day on which it is."""
        is_online = actions["channel"] >= ONLINE
        number = self._rng.integers(0, _TERMINALS_OF_ONE_MERCHANT, len(actions), dtype=np.uint32)
        terminal = _TERMINAL | actions["merchant"].astype(np.uint32) << np.uint32(8) | number
        # Drawn for each day by the card's number: what is bought on that day is bought on one device.
        drawn = mix_ids((actions["at"] // _DAY).astype(np.uint64) << np.uint64(32) | actions["card"], self._device_salt)
        is_other = as_fractions(drawn) < self._profile.other_devices
        other = _OTHER | (drawn & np.uint64(2**30 - 1)).astype(np.uint32)
        own = np.where(is_other, other, _OWN | actions["card"])
        return np.asarray(np.where(is_online, own, terminal), dtype=np.uint32)

    def _reverse(self, actions: NDArray[np.void]) -> NDArray[np.void]:
        rng, profile = self._rng, self._profile
        chosen = (actions["kind"] == PAYMENT) & (actions["is_fraud"] == 0)
        reversed_ = actions[chosen & (rng.random(len(actions)) < profile.reversals)]
        delay = np.minimum(rng.exponential(1.0, len(reversed_)), 12) * (profile.reversal_seconds * _SECOND)
        reversed_["at"] += np.maximum(delay, _LEAST_MICROS).astype(np.int64)
        reversed_["kind"] = REVERSAL
        return reversed_


class CardPayments(SimulatedTopic):
    """One run of the simulated card payments."""

    action: ClassVar[np.dtype[np.void]] = ACTION

    def __init__(self, profile: PaymentProfile, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        super().__init__(profile, seed)
        self._payments = profile
        self._catalogue = build_payment_catalogue(profile, np.random.default_rng([profile.population or seed, 0]))

    def accompany(self, topic: str) -> None:
        """Implements `SimulatedTopic.accompany`: reports of fraud follow."""
        self._companion = FraudReports(self._catalogue, self._payments, self.seed, topic)

    def _open_actions(self) -> _Payments:
        return _Payments(self._catalogue, self._payments, self.seed)

    def _open_encoder(self, run: int) -> PaymentEncoder:
        return PaymentEncoder(self._catalogue, self._payments.population or self.seed)
