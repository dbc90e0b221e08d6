"""The fields of many records as Arrow arrays, a column each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import msgspec.inspect as inspection
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.event_clock import UTC_MICROS
from platform_assets.streaming.moments import FIRST_MICROS, LAST_MICROS
from platform_assets.streaming.record_types import RecordField
from platform_assets.streaming.time_spellings import NANOS_PER_UNIT, read_spelled

# What an array of Arrow's raises for a value that its type does not hold.
NOT_HELD = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError)
_KEPT_TYPES = (Decimal, datetime, date, bytes)

_NESTED = frozenset(("list", "map", "record"))

Build = Callable[[Sequence[Any], EventRules], pa.Array]


def build_column(field: RecordField) -> Build:
    """A function from a field's values (None: null) to its column. It raises one of `NOT_HELD`."""
    of_type = as_arrow(field.column_type)
    if field.as_text:
        return lambda values, _: pa.array(values, pa.int64()).cast(pa.string())
    if "epoch" in field.marks:
        nanos = NANOS_PER_UNIT[field.marks["epoch"]]
        return lambda values, _: _count_as_times(values, nanos)
    if "time_format" in field.marks:
        spelled = field.marks["time_format"]
        return lambda values, rules: _within_years(
            pa.array([_read_time(text, spelled, rules) for text in values], UTC_MICROS)
        )
    if field.kind == "datetime":
        return lambda values, rules: _within_years(pa.array([_in_zone(moment, rules) for moment in values], of_type))
    if field.kind in _NESTED or isinstance(field.inspected, inspection.EnumType):
        return lambda values, _: pa.array(msgspec.to_builtins(values, builtin_types=_KEPT_TYPES), of_type)
    return lambda values, _: pa.array(values, of_type)


def find_not_held(build: Build, values: Sequence[Any], rules: EventRules) -> dict[int, str]:
    """Which of the values the column's type does not hold, and what Arrow says of them."""
    found: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            build([value], rules)
        except NOT_HELD as error:
            found[row] = str(error)
    return found


def _count_as_times(values: Sequence[int | None], nanos: int) -> pa.Array:
    counts = pa.array(values, pa.int64())
    micros = pc.divide(counts, 1_000 // nanos) if nanos < 1_000 else pc.multiply_checked(counts, nanos // 1_000)
    return _within_years(micros.cast(UTC_MICROS))


def _within_years(times: pa.Array) -> pa.Array:
    """The same times. Raises `ArrowInvalid` for one whose year Python does not have: what reads rows would fail."""
    limits = pc.min_max(times.cast(pa.int64()))
    low, high = limits["min"].as_py(), limits["max"].as_py()
    if low is not None and (low < FIRST_MICROS or high > LAST_MICROS):
        raise pa.ArrowInvalid("a time beyond the years 1 to 9999")
    return times


def _read_time(text: str | None, spelled: str, rules: EventRules) -> datetime | None:
    if text is None:
        return None
    return _in_zone(read_spelled(text, spelled), rules)


def _in_zone(moment: datetime | None, rules: EventRules) -> datetime | None:
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=rules.zone)
