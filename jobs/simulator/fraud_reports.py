"""Reports of fraud among simulated card payments, each at its time after the payment: what a real bank learns from.

A series of fraud is noticed once, after its last payment, and all of it is reported then or none of it. A few honest
payments are reported by mistake, and cleared later. All is drawn from hashes of what the payments are already made
of: with the same payments come the same reports, and the payments are the same without them.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.deliveries import DUPLICATE, FAULT_SHIFT
from jobs.simulator.encoded_values import as_fractions, mix_ids, spell_times, spell_uuids
from jobs.simulator.payment_catalogue import PaymentCatalogue
from jobs.simulator.payment_encoding import PAYMENT
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.simulated_topic import CompanionRecord

_SECOND = 1_000_000
_DAY = 24 * 3600 * _SECOND
# Sigma of the log-normal delay: a sixth of all reports come within a third of the median, a sixth after three times it.
_SPREAD = 1.0
# In medians: without a bound one report of a long run could be due after the year 9999, which no timestamp can spell.
_LONGEST_DELAY = 50.0
# Somebody reports one payment of a series after the other, within this time, or within the delay where that is less.
_CALL_MICROS = 180 * _SECOND
# Two reports of one payment must not share a millisecond: the newest verdict holds.
_LEAST_MICROS = _SECOND
# Reports that wait for their time, about 500 bytes each. A live run of 5,000 payments a second for days would else
# hold more than a million; what finds no room is never reported.
_MOST_WAITING = 100_000
_SOURCES = np.array([b"customer", b"issuer", b"merchant"], dtype=object)
_SOURCE_SHARES = np.array([0.7, 0.95])
_ISSUER = 1
# Labels of what is no new transaction: a malformed record, a repetition.
_NOT_NEW = 0xFF >> FAULT_SHIFT << FAULT_SHIFT | DUPLICATE
_ODD = np.uint64(0x9E3779B97F4A7C15)
# The most that is still a 64-bit number.
_BELOW_2_64 = 2.0**64 - 2.0**11
_REPORT = b'{"report_id":"%b","timestamp":"%bZ","transaction_id":"%b",%b,"verdict":"%b","source":"%b"}'


class FraudReports:
    """The reports of one run of card payments, for `topic`. Implements `Companion`."""

    name = "fraud_reports"

    def __init__(self, catalogue: PaymentCatalogue, profile: PaymentProfile, seed: int, topic: str) -> None:
        self.sent = 0
        self._catalogue, self._profile, self._topic = catalogue, profile, topic
        self._salts: list[int] = np.random.default_rng([seed, 6]).integers(0, 2**63, 9).tolist()
        self._waiting: list[tuple[int, int, bytes, bytes]] = []
        self._numbers = itertools.count()

    def add(self, rows: NDArray[np.void], end: int | None) -> None:
        """Implements `Companion.add`: draws the reports of these payments."""
        rows = rows[self._choose(rows)]
        fraud = rows["is_fraud"] > 0
        ended = rows["timestamp"] + rows["remaining"].astype(np.int64) * _SECOND
        # The payments of a series share what is drawn for its card and the day on which it ends.
        series = rows["card"].astype(np.uint64) << np.uint64(32) | (ended // _DAY).astype(np.uint64)
        key = np.where(fraud, series, rows["id_low"])
        chosen = ~fraud | (self._draw(key, 0) < self._profile.reported)
        rows, fraud, key, ended = rows[chosen], fraud[chosen], key[chosen], ended[chosen]
        delay = self._draw_delays(key, 1)
        call = self._draw(rows["id_low"], 3) * np.minimum(delay, _CALL_MICROS)
        at = np.maximum(ended + (delay + call).astype(np.int64), rows["sent_at"] + _LEAST_MICROS)
        source = np.searchsorted(_SOURCE_SHARES, self._draw(key, 4), side="right")
        self._put(rows, at, b"fraud", source, end)
        rows, at = rows[~fraud], at[~fraud]
        at = at + np.maximum(self._draw_delays(rows["id_low"], 5).astype(np.int64), _LEAST_MICROS)
        self._put(rows, at, b"no_fraud", np.full(len(rows), _ISSUER), end)

    def take(self, until: int) -> list[CompanionRecord]:
        """Implements `Companion.take`."""
        found: list[CompanionRecord] = []
        while self._waiting and self._waiting[0][0] <= until:
            at, _, key, value = heapq.heappop(self._waiting)
            found.append(CompanionRecord((at, key, value), self._topic))
        return found

    def _choose(self, rows: NDArray[np.void]) -> NDArray[np.intp]:
        """Finds fraud, and honest payments that are taken for it, among records that are valid and no repetition."""
        # For all rows, so in few operations. Ids are random: multiplied by an odd number they are so still.
        drawn = rows["id_low"] * _ODD
        mistaken = (drawn < np.uint64(self._profile.false_reports * _BELOW_2_64)) & (rows["kind"] == PAYMENT)
        return np.flatnonzero((mistaken | (rows["is_fraud"] > 0)) & (rows["label"] & _NOT_NEW == 0))

    def _put(
        self, rows: NDArray[np.void], at: NDArray[np.int64], verdict: bytes, source: NDArray[np.int64], end: int | None
    ) -> None:
        if not len(rows):
            return
        card = rows["card"]
        salt = self._salts[7 if verdict == b"fraud" else 8]
        ids = spell_uuids(*(mix_ids(rows[name], salt) for name in ("id_high", "id_low")))
        reports = zip(
            at.tolist(),
            self._catalogue.card_keys[card].tolist(),
            ids,
            spell_times(at, np.zeros(len(at), np.bool_)),
            spell_uuids(rows["id_high"], rows["id_low"]),
            self._catalogue.card_json[card].tolist(),
            _SOURCES[source].tolist(),
            strict=True,
        )
        for due, key, own, stamp, transaction, whose, who in reports:
            if (end is None or due < end) and len(self._waiting) < _MOST_WAITING:
                value = _REPORT % (own, stamp, transaction, whose, verdict, who)
                heapq.heappush(self._waiting, (due, next(self._numbers), key, value))

    def _draw(self, keys: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
        """A number from 0 to 1, always the same for the same key."""
        return as_fractions(mix_ids(keys, self._salts[salt]))

    def _draw_delays(self, keys: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
        """Log-normal, in microseconds, from two draws."""
        radius = np.sqrt(-2 * np.log(1 - self._draw(keys, salt)))
        normal = radius * np.cos(2 * np.pi * self._draw(keys, salt + 1))
        median = self._profile.report_hours * 3600 * _SECOND
        return np.asarray(np.minimum(np.exp(_SPREAD * normal), _LONGEST_DELAY) * median)
