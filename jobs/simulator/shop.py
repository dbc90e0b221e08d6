"""The simulated shop: an endless, seeded, reproducible stream of records, in the order in which they are sent.

No Kafka and no clock of its own. Three steps, each on numpy arrays of many events at once:

    sessions     begin at random, walk through the shop with think-time        (`_Sessions`, in time order)
    deliveries   are late, overtake, repeat, break                             (`_Deliveries`, in send order)
    records      are JSON                                                      (`encode`)

Memory is bounded: only events still to come of sessions already begun, and records held back, are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.catalogue import Catalogue, build_catalogue
from jobs.simulator.encoding import DELIVERY, DUPLICATE, FAULT_SHIFT, LATE, OUT_OF_ORDER, UNKNOWN_FIELDS, Encoder
from jobs.simulator.profile import FAULTS, ShopProfile
from jobs.simulator.shopper import SessionLibrary, build_library
from platform_assets.errors import UsageError

# One record to send: when (microseconds since 1970, never decreasing), its key, its value (None: a tombstone).
Record = tuple[int, bytes, bytes | None]

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
# Above this rate shoppers think faster instead of being more: at 50,000/s three million events are already under way
# (70 MB), and nothing but the distance between a session's events would change.
_MOST_EVENTS_PER_SECOND = 50_000.0
# Sessions that began before the first event. Without them a run would begin with nothing but page views and few late
# records; at high rates the bound on events keeps the start under a second.
_WARM_UP_SECONDS = 1800.0
_WARM_UP_EVENTS = 300_000
# Rows that are encoded at once: enough to make numpy's cost per call vanish, few enough that the times of an
# unlimited live run, read from the clock once for this many rows, stay within a tenth of a second of the truth.
_CHUNK = 8192
# A producer that is slower than the rate asked for: when the schedule is further behind than this, it starts afresh
# from the clock, for a live event's timestamp must be the present time.
_MOST_BEHIND = _SECOND
# Delays are exponential, with a bound, so that what is held back is bounded too.
_LONGEST_DELAY = 12


@dataclass
class Tally:
    """What was really yielded: the truth to compare tables with. `codes` counts records by `encoding`'s label."""

    codes: list[int] = field(default_factory=lambda: [0] * 256)

    def _count(self, has: int, lacks: int = 0) -> int:
        return sum(n for code, n in enumerate(self.codes) if code & has == has and not code & lacks)

    @property
    def records(self) -> int:
        """All records, of any kind."""
        return sum(self.codes)

    @property
    def malformed(self) -> dict[str, int]:
        """Malformed records by reason; only reasons that occurred."""
        counts = {
            fault: sum(self.codes[i << FAULT_SHIFT : (i + 1) << FAULT_SHIFT]) for i, fault in enumerate(FAULTS, 1)
        }
        return {fault: count for fault, count in counts.items() if count}

    @property
    def duplicates(self) -> int:
        """Valid records that repeat an earlier one byte for byte."""
        return self._count(DUPLICATE)

    @property
    def valid(self) -> int:
        """Valid events, each counted once: the rows that `silver.events` must hold."""
        return self.records - self.duplicates - sum(self.malformed.values())

    @property
    def late(self) -> int:
        """Valid events (duplicates apart) that were held back for minutes."""
        return self._count(LATE, lacks=DUPLICATE)

    @property
    def out_of_order(self) -> int:
        """Valid events (duplicates apart) that were held back for seconds."""
        return self._count(OUT_OF_ORDER, lacks=DUPLICATE)

    @property
    def unknown_fields(self) -> int:
        """Valid events (duplicates apart) with fields outside the contract."""
        return self._count(UNKNOWN_FIELDS, lacks=DUPLICATE)

    def as_dict(self) -> dict[str, int]:
        """Every count by name, malformed reasons as `malformed.<reason>`, for metadata and tables."""
        counts = {
            "records": self.records,
            "valid": self.valid,
            "duplicates": self.duplicates,
            "late": self.late,
            "out_of_order": self.out_of_order,
            "unknown_fields": self.unknown_fields,
        }
        return counts | {f"malformed.{fault}": count for fault, count in self.malformed.items()}


class _Sessions:
    """Actions of all shoppers in time order, in blocks. Keeps the later actions of sessions that have begun."""

    def __init__(self, catalogue: Catalogue, library: SessionLibrary, profile: ShopProfile, seed: int) -> None:
        self._catalogue, self._library, self._profile = catalogue, library, profile
        self._rng = np.random.default_rng([seed, 1])
        self._begun = 0
        self._to_come = np.empty(0, _ACTION)

    def blocks(
        self, begin: int, events_per_second: float, swing: float, least: int
    ) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yields (end, actions before end), for ever; times in microseconds from `begin` on, non-decreasing.

        A block has about `least` events or more, at least two seconds' worth, but is never so long that the daily
        swing would show steps.
        """
        sessions_per_second = events_per_second / self._library.mean_length
        seconds = min(max(2.0, least / events_per_second), 600.0)
        at = begin
        while True:
            hour = at / _SECOND / 3600 % 24
            intensity = 1 + swing * math.cos((hour - 20) / 24 * 2 * math.pi)
            count = int(self._rng.poisson(sessions_per_second * seconds * intensity))
            end = at + round(seconds * _SECOND)
            actions = np.concatenate([self._to_come, self._new_sessions(count, at, end)])
            due = actions["at"] < end
            self._to_come = actions[~due]
            actions = actions[due]
            yield end, actions[np.argsort(actions["at"], kind="stable")]
            at = end

    def _new_sessions(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        rng, catalogue, library, profile = self._rng, self._catalogue, self._library, self._profile
        drawn = rng.integers(len(library.length), size=count)
        length, slots = library.length[drawn], library.slots[drawn]
        total = int(length.sum())
        first = np.cumsum(length) - length
        session = np.repeat(np.arange(count), length)
        step = np.arange(total) - np.repeat(first - library.first[drawn], length)
        products = np.searchsorted(catalogue.product_weights, rng.random(int(slots.sum())), side="right")
        think = np.exp(rng.normal(0.0, 1.0, total) * profile.think_spread) * (profile.think_seconds * _SECOND)
        # At least 2 ms, for most timestamps are in milliseconds and a session's events must not share one.
        think = np.maximum(think, 2000.0)
        if count:
            think[first] = rng.uniform(begin, end, count) - begin
        passed = np.cumsum(think)
        started = passed[first] - think[first] if count else passed
        user = np.searchsorted(catalogue.user_weights, rng.random(count), side="right")
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


class _Deliveries:
    """Turns actions into records to send: delays, duplicates, faults. Keeps what is held back."""

    def __init__(self, profile: ShopProfile, seed: int, start: int) -> None:
        self._profile = profile
        self._start = start
        self._rng = np.random.default_rng([seed, 2])
        self._ids = np.random.default_rng([seed, 3, start])
        self._held_back = np.empty(0, DELIVERY)
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
        rows = np.zeros(count, DELIVERY)
        for name in ("user", "session", "product", "event_type", "quantity", "device"):
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


class Shop:
    """One run of the shop. Take records from `live` or `history`, once; `tally` counts exactly those taken.

    The same profile, seed, arguments and clock readings give the same bytes. The same seed with another start has
    the same kind of shoppers, with event and session ids of its own: sending it is never a repetition.
    A record counts in `tally` from the moment it is handed out.
    """

    def __init__(self, profile: ShopProfile, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        if seed < 0:
            raise UsageError(f"seed is {seed}. Give a whole number from 0 on.")
        self.profile = profile
        self.seed = seed
        self.tally = Tally()
        self._catalogue = build_catalogue(profile, np.random.default_rng([seed, 0]))
        self._library = build_library(profile, seed)

    def live(
        self,
        start: int,
        records_per_second: float | None,
        duration_seconds: float | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Iterator[Record]:
        """Records whose timestamps are the time at which they are due, evenly spaced; endless without a duration.

        `start` and the readings of `clock` are microseconds since 1970. With a clock the schedule never falls more
        than a second behind the present; without a rate (which needs a clock) events simply happen as fast as they
        are taken. Raises `UsageError` for a rate or duration that is not positive, or neither rate nor clock.
        """
        if records_per_second is None and clock is None:
            raise UsageError("A live shop needs a rate or a clock. Give one of them.")
        for name, value in (("rate", records_per_second), ("duration", duration_seconds)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name} is {value}. Give a number above 0.")
        end = None if duration_seconds is None else start + round(duration_seconds * _SECOND)
        return self._taken(self._live_rows(start, records_per_second, clock), start, end)

    def history(self, start: int, end: int, records_per_second: float) -> Iterator[Record]:
        """Records of a past period, at their original times, following the hours of the day; no time is after `end`.

        What was still on its way at `end` never arrives. About `records_per_second` x the period's length in all.
        Raises `UsageError` for an empty period or a rate that is not positive.
        """
        if not start < end:
            raise UsageError("The history is empty. Give it more hours.")
        if not (records_per_second > 0 and math.isfinite(records_per_second)):
            raise UsageError(f"rate is {records_per_second}. Give a number above 0.")
        return self._taken(self._history_rows(start, records_per_second), start, end)

    def _history_rows(self, start: int, records_per_second: float) -> Iterator[NDArray[np.void]]:
        events_per_second = records_per_second / self.profile.records_per_event
        deliveries = _Deliveries(self.profile, self.seed, start)
        begin = start - self._warm_up(events_per_second)
        for until, actions in self._sessions().blocks(begin, events_per_second, self.profile.daily_swing, 4096):
            rows, faults = deliveries.add_malformed(actions)
            yield deliveries.send(rows, faults, rows["at"], until - 1)

    def _live_rows(
        self, start: int, records_per_second: float | None, clock: Callable[[], int] | None
    ) -> Iterator[NDArray[np.void]]:
        profile, deliveries = self.profile, _Deliveries(self.profile, self.seed, start)
        events_per_second = _MOST_EVENTS_PER_SECOND
        step = 0.0
        if records_per_second is not None:
            events_per_second = min(records_per_second / profile.records_per_event, _MOST_EVENTS_PER_SECOND)
            rows_per_event = 1 + sum(profile.fault_rates.values())
            step = _SECOND * profile.records_per_event / rows_per_event / records_per_second
        due, last = float(start), start
        begin = start - self._warm_up(events_per_second)
        for _, block in self._sessions().blocks(begin, events_per_second, 0.0, 64):
            actions, faults = deliveries.add_malformed(block)
            before = int(np.searchsorted(actions["at"], start))
            if before:
                yield deliveries.send(actions[:before], faults[:before], actions["at"][:before], start - 1)
            for i in range(before, len(actions), _CHUNK):
                chunk = slice(i, min(i + _CHUNK, len(actions)))
                count = chunk.stop - chunk.start
                now = clock() if clock else None
                if now is not None and (records_per_second is None or now - due > _MOST_BEHIND):
                    # Never backwards, should the clock be set back.
                    now = max(now, last)
                    spacing = (now - last) / count if records_per_second is None else step
                    due = float(last if records_per_second is None else now)
                else:
                    spacing = step
                timestamps = (due + spacing * np.arange(1, count + 1)).astype(np.int64)
                due += spacing * count
                last = int(timestamps[-1])
                yield deliveries.send(actions[chunk], faults[chunk], timestamps, last)

    def _sessions(self) -> _Sessions:
        return _Sessions(self._catalogue, self._library, self.profile, self.seed)

    @staticmethod
    def _warm_up(events_per_second: float) -> int:
        return round(min(_WARM_UP_SECONDS, _WARM_UP_EVENTS / events_per_second) * _SECOND)

    def _taken(self, chunks: Iterator[NDArray[np.void]], start: int, end: int | None) -> Iterator[Record]:
        encoder = Encoder(self._catalogue, self.seed, start, self.profile.without_revenue)
        codes = self.tally.codes
        for rows in chunks:
            ended = end is not None and len(rows) > 0 and int(rows["sent_at"][-1]) >= end
            if ended:
                rows = rows[rows["sent_at"] < end]
            # A history's block can be large; encoding it in chunks bounds the memory of its JSON.
            for i in range(0, len(rows), _CHUNK):
                chunk = rows[i : i + _CHUNK]
                for sent_at, key, value, label in encoder.encode(chunk):
                    codes[label] += 1
                    yield sent_at, key, value
            if ended:
                return
