"""When a record happened, by the field that its topic names: read, and held against the times that can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.reasons import Breaches, Reason
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.record_types import RecordField
from platform_assets.streaming.time_spellings import NANOS_PER_UNIT, read_moment, read_spelled
from platform_assets.streaming.topic_spec import EventTime

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

EARLIEST_MICROS = count_micros(datetime(2000, 1, 1, tzinfo=UTC))
# Clocks drift and gateways batch, but an event from the day after tomorrow is a wrong clock or a wrong unit.
MAX_AHEAD_MICROS = 24 * 3600 * 1_000_000
UTC_MICROS = pa.timestamp("us", tz="UTC")
# The usual spelling of a time. All others that ISO 8601 allows are read one by one.
_USUAL = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"


class EventClock:
    """Reads the time of records by one field of theirs."""

    def __init__(self, time: EventTime, time_field: RecordField) -> None:
        self._time = time
        self._kind = time_field.kind

    def judge(self, value: Any, arrival_micros: int, rules: EventRules, breaches: Breaches) -> int:
        """One value in microseconds since 1970, UTC; one without an offset is in the rules' zone.

        Of an hour that a zone has twice (clocks set back) it is the first. One that cannot be read, lies before 2000 or
        more than a day after `arrival_micros` is a breach (bad_timestamp), and the result means nothing.
        """
        micros = self._read(value, rules)
        if micros is None:
            wanted = f"a time like {self._time.format}" if self._time.format else "an ISO-8601 date and time"
            wanted = wanted if self._time.unit is None else f"a number of {self._time.unit} since 1970"
            breaches.add(Reason.BAD_TIMESTAMP, f"not {wanted}: {value!r}")
            return 0
        if micros < EARLIEST_MICROS:
            breaches.add(Reason.BAD_TIMESTAMP, f"before the year 2000: {value!r}")
        if micros > arrival_micros + MAX_AHEAD_MICROS:
            breaches.add(Reason.BAD_TIMESTAMP, f"more than a day ahead of its arrival: {value!r}")
        return micros

    def read_all(self, values: Sequence[Any], arrival_micros: int, rules: EventRules) -> tuple[Int64s, Any]:
        """The times of many values, and which of them are read and in range (a mask). None is not."""
        is_iso = self._kind == "text" and self._time.format is None
        micros = _read_usual(values) if is_iso else None
        if micros is None:
            read = (None if value is None else self._read(value, rules) for value in values)
            micros = np.fromiter((_bounded(found) for found in read), np.int64, len(values))
        return micros, (micros >= EARLIEST_MICROS) & (micros <= arrival_micros + MAX_AHEAD_MICROS)

    def _read(self, value: Any, rules: EventRules) -> int | None:
        if self._time.unit is not None:
            nanos = value * NANOS_PER_UNIT[self._time.unit]
            if isinstance(value, float):
                # A double may be so large that its nanoseconds are infinite: no time, and no error either.
                return round(nanos / 1_000) if math.isfinite(nanos) else None
            return nanos // 1_000
        moment = value if isinstance(value, datetime) else self._read_text(value)
        if moment is None:
            return None
        return count_micros(moment.replace(tzinfo=rules.zone) if moment.tzinfo is None else moment)

    def _read_text(self, text: str) -> datetime | None:
        try:
            if self._time.format is not None:
                return read_spelled(text, self._time.format)
            # A date alone is not a moment: it would silently become midnight.
            if len(text) <= len("2026-01-31"):
                return None
            return read_moment(text) if self._kind == "datetime" else datetime.fromisoformat(text)
        except ValueError:
            return None


def _read_usual(texts: Sequence[str | None]) -> Int64s | None:
    """Times of the usual spelling, 0 for all others; None where one of them is of a day that does not exist."""
    array = pa.array(texts, pa.string())
    is_usual = pa.compute.match_substring_regex(array, _USUAL)
    try:
        times = pa.compute.if_else(is_usual, array, pa.scalar(None, pa.string())).cast(UTC_MICROS)
    except pa.ArrowInvalid:
        return None
    micros: Int64s = times.cast(pa.int64()).fill_null(0).to_numpy().copy()
    return micros


def _bounded(micros: int | None) -> int:
    """A time that 64 bits hold; 0, which is out of range, for none."""
    return micros if micros is not None and 0 <= micros < 2**62 else 0
