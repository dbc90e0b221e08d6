"""What happens to records on their way: they are late, overtake each other, are repeated, break.

One for all simulated topics: an action is a row of numbers, of which this needs only when it happens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.delivery_habits import DeliveryHabits

# A delivery's label: flags in the low four bits, the fault (0: none, else 1 + its index in the profile's `faults`) in
# the high four.
DUPLICATE, LATE, OUT_OF_ORDER, UNKNOWN_FIELDS = 1, 2, 4, 8
FAULT_SHIFT = 4

_SECOND = 1_000_000
# Delays are exponential, with a bound, so that what is held back is bounded too.
_LONGEST_DELAY = 12


def build_delivery_type(action: np.dtype[np.void]) -> np.dtype[np.void]:
    """The type of deliveries of such actions, whose first field is `at`, in microseconds since 1970."""
    own = [(name, action[name]) for name in (action.names or ())[1:]]
    of_all = [("sent_at", "i8"), ("timestamp", "i8"), ("id_high", "u8"), ("id_low", "u8")]
    return np.dtype([*of_all, *own, ("label", "u1")])


class Deliveries:
    """Turns actions into records to send: delays, duplicates, faults. Keeps what is held back.

    `delivery` is `build_delivery_type` of the actions' type.
    """

    def __init__(self, profile: DeliveryHabits, delivery: np.dtype[np.void], seed: int, start: int) -> None:
        self._profile, self._delivery = profile, delivery
        self._start = start
        self._rng = np.random.default_rng([seed, 2])
        self._ids = np.random.default_rng([seed, 3, start])
        self._held_back = np.empty(0, delivery)
        self._fault_bounds = np.cumsum(list(profile.fault_rates.values()))

    def add_malformed(self, actions: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
        """The actions, some followed by a copy that will be broken, and each row's fault (0: none, else index + 1)."""
        drawn = self._rng.random(len(actions))
        broken = np.flatnonzero(drawn < self._fault_bounds[-1])
        rows = np.insert(np.arange(len(actions)), broken + 1, broken)
        faults = np.zeros(len(rows), np.uint8)
        places = broken + 1 + np.arange(len(broken))
        faults[places] = 1 + np.searchsorted(self._fault_bounds, drawn[broken], side="right")
        return actions[rows], faults

    def send(
        self, actions: NDArray[np.void], faults: NDArray[np.uint8], timestamps: NDArray[np.int64], until: int
    ) -> NDArray[np.void]:
        """The deliveries due up to `until` (inclusive), in send order, once `actions` happened at `timestamps`."""
        rng, profile, count = self._rng, self._profile, len(actions)
        rows = np.zeros(count, self._delivery)
        for name in (actions.dtype.names or ())[1:]:
            rows[name] = actions[name]
        rows["timestamp"] = timestamps
        ids = self._ids.integers(0, 2**64, size=(count, 2), dtype=np.uint64)
        rows["id_high"], rows["id_low"] = ids[:, 0], ids[:, 1]
        valid = faults == 0
        drawn = rng.random(count)
        late = valid & (drawn < profile.late)
        jitter = valid & ~late & (rng.random(count) < profile.out_of_order)
        delay = np.zeros(count, np.int64)
        delay[late] = self._delays(int(late.sum()), profile.late_minutes * 60)
        delay[jitter] = (rng.random(int(jitter.sum())) * (profile.out_of_order_seconds * _SECOND)).astype(np.int64)
        unknown = valid & (rng.random(count) < profile.unknown_fields)
        rows["sent_at"] = timestamps + delay
        rows["label"] = faults << FAULT_SHIFT | late * LATE | jitter * OUT_OF_ORDER | unknown * UNKNOWN_FIELDS
        # What left before the run began was not seen: neither it nor its repetition, which would be the only copy.
        seen = rows["sent_at"] >= self._start
        again = rows[seen & valid & (rng.random(count) < profile.duplicates)]
        again["sent_at"] += 1 + self._delays(len(again), profile.duplicate_seconds)
        again["label"] |= DUPLICATE
        rows = np.concatenate([self._held_back, rows[seen], again])
        due = rows["sent_at"] <= until
        self._held_back = rows[~due]
        rows = rows[due]
        return rows[np.argsort(rows["sent_at"], kind="stable")]

    def _delays(self, count: int, mean_seconds: float) -> NDArray[np.int64]:
        delays = np.minimum(self._rng.exponential(1.0, count), _LONGEST_DELAY)
        return (delays * (mean_seconds * _SECOND)).astype(np.int64)
