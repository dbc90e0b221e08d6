"""A simulated topic: an endless, seeded, reproducible stream of records, in the order in which they are sent.

No Kafka and no clock of its own. Three steps, each on numpy arrays of many events at once:

    actions       of people, in time order                (`Actions`: a topic's own)
    deliveries    are late, overtake, repeat, break       (`Deliveries`, in send order)
    records       are JSON                                (`RecordEncoder`: a topic's own)

Memory is bounded: only actions still to come of what has begun, and records held back, are kept.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.deliveries import (
    DUPLICATE,
    FAULT_SHIFT,
    LATE,
    OUT_OF_ORDER,
    UNKNOWN_FIELDS,
    Deliveries,
    build_delivery_type,
)
from jobs.simulator.delivery_habits import FAULTS, DeliveryHabits
from platform_assets.errors import UsageError

# One record to send: when (microseconds since 1970, never decreasing), its key, its value (None: a tombstone).
Record = tuple[int, bytes, bytes | None]


class CompanionRecord(Record):
    """A record for another topic of the broker than the records around it: `topic` names it."""

    topic: str

    def __new__(cls, record: Record, topic: str) -> CompanionRecord:
        """The record, addressed to `topic`."""
        self = super().__new__(cls, record)
        self.topic = topic
        return self


_SECOND = 1_000_000
# Above this rate people act faster instead of being more: at 50,000/s three million events are already under way
# (70 MB), and nothing but the distance between the events of one person would change.
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


class Actions(Protocol):
    """What people do, each action once, before anything happens to its record."""

    def blocks(
        self, begin: int, events_per_second: float, swing: float, least: int
    ) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yields (end, actions before end), for ever; times in microseconds from `begin` on, non-decreasing.

        A block has about `least` actions or more, at least two seconds' worth, but is never so long that the daily
        swing would show steps.
        """
        ...


class RecordEncoder(Protocol):
    """Writes deliveries as records. The same row always gives the same bytes."""

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """(sent_at in microseconds, key, value, label) for each delivery, in order."""
        ...


class Companion(Protocol):
    """Records that follow from those of a topic, and go to one of their own. `sent` counts those handed out."""

    name: str
    sent: int

    def add(self, rows: NDArray[np.void], end: int | None) -> None:
        """Is shown deliveries that are about to be handed out. Nothing that is due at `end` or later will be taken."""
        ...

    def take(self, until: int) -> list[CompanionRecord]:
        """The records that are due up to `until`, in order; each once."""
        ...


@dataclass
class Tally:
    """What was really yielded: the truth to compare tables with.

    `codes` counts records by their label (see `deliveries`).
    """

    faults: tuple[str, ...] = FAULTS
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
            fault: sum(self.codes[i << FAULT_SHIFT : (i + 1) << FAULT_SHIFT]) for i, fault in enumerate(self.faults, 1)
        }
        return {fault: count for fault, count in counts.items() if count}

    @property
    def duplicates(self) -> int:
        """Valid records that repeat an earlier one byte for byte."""
        return self._count(DUPLICATE)

    @property
    def valid(self) -> int:
        """Valid events, each counted once: the rows that the table of accepted records must hold."""
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


class SimulatedTopic(ABC):
    """One run of a simulated topic. Take records from `live` or `history`, once; `tally` counts exactly those taken.

    The same profile, seed, arguments and clock readings give the same bytes. The same seed with another start has
    the same kind of people, with ids of its own: sending it is never a repetition. A record counts in `tally` from the
    moment it is handed out.
    """

    action: ClassVar[np.dtype[np.void]]
    """The type of its actions."""

    def __init__(self, profile: DeliveryHabits, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        if seed < 0:
            raise UsageError(f"seed is {seed}. Give a whole number from 0 on.")
        self.profile = profile
        self.seed = seed
        self.tally = Tally(profile.faults)
        self._delivery = build_delivery_type(self.action)
        self._companion: Companion | None = None

    def accompany(self, topic: str) -> None:
        """Lets what follows from the records, and is sent to the companion topic, stand between them; call it first.

        `topic` is its name on the broker. Raises `UsageError` where nothing follows.
        """
        raise UsageError(f"No other topic follows from a {type(self).__name__}.")

    @property
    def counts(self) -> dict[str, int]:
        """What was handed out, by name: the tally, and the records of the companion topic."""
        companion = self._companion
        return self.tally.as_dict() | ({companion.name: companion.sent} if companion else {})

    @abstractmethod
    def _open_actions(self) -> Actions:
        """What happens, from the beginning."""

    @abstractmethod
    def _open_encoder(self, run: int) -> RecordEncoder:
        """The encoder of a run that begins at `run`, in microseconds."""

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
            raise UsageError("Live records need a rate or a clock. Give one of them.")
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
        deliveries = Deliveries(self.profile, self._delivery, self.seed, start)
        begin = start - self._warm_up(events_per_second)
        for until, actions in self._open_actions().blocks(begin, events_per_second, self.profile.daily_swing, 4096):
            rows, faults = deliveries.add_malformed(actions)
            yield deliveries.send(rows, faults, rows["at"], until - 1)

    def _live_rows(
        self, start: int, records_per_second: float | None, clock: Callable[[], int] | None
    ) -> Iterator[NDArray[np.void]]:
        profile, deliveries = self.profile, Deliveries(self.profile, self._delivery, self.seed, start)
        events_per_second = _MOST_EVENTS_PER_SECOND
        step = 0.0
        if records_per_second is not None:
            events_per_second = min(records_per_second / profile.records_per_event, _MOST_EVENTS_PER_SECOND)
            rows_per_event = 1 + sum(profile.fault_rates.values())
            step = _SECOND * profile.records_per_event / rows_per_event / records_per_second
        due, last = float(start), start
        begin = start - self._warm_up(events_per_second)
        for _, block in self._open_actions().blocks(begin, events_per_second, 0.0, 64):
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

    @staticmethod
    def _warm_up(events_per_second: float) -> int:
        return round(min(_WARM_UP_SECONDS, _WARM_UP_EVENTS / events_per_second) * _SECOND)

    def _taken(self, chunks: Iterator[NDArray[np.void]], start: int, end: int | None) -> Iterator[Record]:
        encoder = self._open_encoder(start)
        codes = self.tally.codes
        for rows in chunks:
            ended = end is not None and len(rows) > 0 and int(rows["sent_at"][-1]) >= end
            if ended:
                rows = rows[rows["sent_at"] < end]
            # A history's block can be large; encoding it in chunks bounds the memory of its JSON.
            for i in range(0, len(rows), _CHUNK):
                chunk = rows[i : i + _CHUNK]
                encoded = encoder.encode(chunk)
                for before, follows in self._place_companions(chunk, end):
                    for sent_at, key, value, label in itertools.islice(encoded, before):
                        codes[label] += 1
                        yield sent_at, key, value
                    yield from follows
            if ended:
                yield from self._hand_out(self._companion.take(end - 1) if self._companion and end else [])
                return

    def _place_companions(
        self, chunk: NDArray[np.void], end: int | None
    ) -> Iterator[tuple[int | None, Iterator[Record]]]:
        """How many records (None: all others) come before the next ones of the companion topic, and these."""
        if self._companion and len(chunk):
            self._companion.add(chunk, end)
            due = self._companion.take(int(chunk["sent_at"][-1]))
            places = np.searchsorted(chunk["sent_at"], [record[0] for record in due], side="right").tolist()
            for i, record in enumerate(due):
                yield places[i] - (places[i - 1] if i else 0), self._hand_out([record])
        yield None, iter(())

    def _hand_out(self, records: list[CompanionRecord]) -> Iterator[Record]:
        for record in records:
            if self._companion:
                self._companion.sent += 1
            yield record
