"""Devices of fraud rings: a thief with a list of stolen cards pays by one after the other from the same devices.

A device is used for some days, then its ring takes another one. Which devices a ring has when follows from the clock
and a number alone: a later run goes on with those of an earlier one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.encoded_values import as_fractions, mix_ids
from jobs.simulator.payment_profile import PaymentProfile

_DAY = 24 * 3600 * 1_000_000
_DEVICE_BITS = np.uint64(30)


class FraudRings:
    """Chooses the device of each series of fraud that is not on the card's own one."""

    def __init__(self, profile: PaymentProfile, seed: int) -> None:
        self._profile = profile
        self._salts: list[int] = np.random.default_rng([seed, 7]).integers(0, 2**63, 2).tolist()

    def choose_devices(self, drawn: NDArray[np.uint32], starts: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Numbers of 30 bits: that of a ring's device for a share of the series, for all others their own.

        `drawn` is a random number of 30 bits for each series, `starts` when it begins, in microseconds.
        """
        profile = self._profile
        chance = mix_ids(drawn.astype(np.uint64), self._salts[0])
        in_ring = as_fractions(chance) < profile.rings
        place = chance % np.uint64(profile.ring_devices)
        # They do not change all on one day: each is a part of its life ahead of the one before.
        age = starts / (profile.ring_days * _DAY) + place / profile.ring_devices
        device = mix_ids(np.floor(age).astype(np.uint64) << np.uint64(32) | place, self._salts[1])
        return np.where(in_ring, (device >> (np.uint64(64) - _DEVICE_BITS)).astype(np.uint32), drawn)
