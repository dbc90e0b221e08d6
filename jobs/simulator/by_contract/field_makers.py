"""Makes values for the fields of a topic's record, by their types: as JSON has them, plausible, and always valid."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, TypeAlias

import msgspec.inspect as inspection

from jobs.simulator.by_contract.matching_text import make_match
from jobs.simulator.by_contract.plausible_texts import make_text
from platform_assets.errors import UsageError
from platform_assets.streaming.record_types import INT32_MAX, find_choices, unwrap
from platform_assets.streaming.time_spellings import TimeUnit

_UNITS: dict[TimeUnit, int] = {"s": 1_000_000, "ms": 1000, "us": 1}
# Of a field that need not be there, or may be null.
_PRESENT = 0.85
_MOST_ITEMS = 3
_KEYS = ("first", "second", "third", "fourth")


@dataclass
class Moment:
    """What a record is about: when, in microseconds since 1970, and the source of what is random in it."""

    micros: int
    random: Random

    @property
    def time(self) -> datetime:
        """The time, UTC."""
        return datetime.fromtimestamp(self.micros // 1_000_000, UTC) + timedelta(microseconds=self.micros % 1_000_000)


Maker: TypeAlias = Callable[[Moment], Any]


def spell_time(micros: int, unit: TimeUnit | None, time_format: str | None) -> Any:
    """A moment as a field has it: a number of units, a text in a format, or ISO 8601 in UTC."""
    if unit is not None:
        return micros * 1000 if unit == "ns" else micros // _UNITS[unit]
    moment = datetime.fromtimestamp(micros // 1_000_000, UTC) + timedelta(microseconds=micros % 1_000_000)
    if time_format is not None:
        return moment.strftime(time_format)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_maker(of_type: inspection.Type, name: str) -> Maker:
    """A maker for a field of this type. Raises `UsageError` for a limit that it cannot keep."""
    found = unwrap(of_type)
    make = _build(found.inspected, found.marks, _list_examples(of_type), name)
    if found.is_nullable:
        return lambda moment: make(moment) if moment.random.random() < _PRESENT else None
    return make


def _build(inspected: inspection.Type, marks: Mapping[str, Any], examples: Sequence[Any], name: str) -> Maker:
    if "epoch" in marks or "time_format" in marks:
        unit, time_format = marks.get("epoch"), marks.get("time_format")
        return lambda moment: spell_time(moment.micros, unit, time_format)
    if choices := (find_choices(inspected) or tuple(examples)):
        return lambda moment: moment.random.choice(choices)
    match inspected:
        case inspection.StrType():
            return _build_text(inspected, name)
        case inspection.IntType():
            return _build_whole(inspected, name)
        case inspection.FloatType():
            low, high = _bound(inspected, 0.0, 100.0)
            return lambda moment: round(low + (high - low) * moment.random.random(), 3)
        case inspection.BoolType():
            return lambda moment: moment.random.random() < 0.5
        case inspection.DecimalType():
            return _build_decimal(*marks["digits"])
        case inspection.DateTimeType():
            return lambda moment: spell_time(moment.micros, None, None)
        case inspection.DateType():
            return lambda moment: moment.time.date().isoformat()
        case inspection.BytesType():
            return lambda moment: base64.b64encode(moment.random.randbytes(8)).decode()
        case inspection.StructType():
            return _build_record(inspected)
        case inspection.DictType():
            make = build_maker(inspected.value_type, name)
            return lambda moment: {key: make(moment) for key in _KEYS[: moment.random.randint(1, len(_KEYS))]}
    return _build_list(inspected, name)


def _build_text(inspected: inspection.StrType, name: str) -> Maker:
    least, most = inspected.min_length or 0, inspected.max_length
    if inspected.pattern is not None:
        pattern = inspected.pattern
        return lambda moment: make_match(pattern, moment.random)
    return lambda moment: make_text(name, moment.random).ljust(least, "x")[:most]


def _build_whole(inspected: inspection.IntType, name: str) -> Maker:
    low, high = _bound(inspected, 0, 1000)
    step = inspected.multiple_of or 1
    first, last = math.ceil(low / step), math.floor(high / step)
    if first > last:
        raise UsageError(f"{name} can have no value: its limits exclude each other.")
    return lambda moment: int(moment.random.randint(first, last) * step)


def _bound(inspected: Any, low: float, high: float) -> tuple[Any, Any]:
    """The range to draw from: a part of what the limits allow."""
    least = inspected.ge if inspected.ge is not None else inspected.gt + 1 if inspected.gt is not None else None
    most = inspected.le if inspected.le is not None else inspected.lt - 1 if inspected.lt is not None else None
    if isinstance(inspected, inspection.FloatType) and inspected.gt is not None:
        least = math.nextafter(inspected.gt, math.inf)
    if isinstance(inspected, inspection.FloatType) and inspected.lt is not None:
        most = inspected.lt - abs(inspected.lt) * 0.01
    if most == INT32_MAX:
        most = None  # it says how wide the column is
    if least is None:
        least = low if most is None or most > low else most - (high - low)
    if most is None:
        most = high if high > least else least + (high - low)
    return least, most


def _build_decimal(precision: int, scale: int) -> Maker:
    """Amounts most of which are small: a log-normal number around 30, or what the digits hold."""
    most = min(10 ** (precision - scale) - 1, 100_000)

    def make(moment: Moment) -> Decimal:
        amount = min(moment.random.lognormvariate(3.4, 1.0), most)
        return Decimal(round(amount * 10**scale)).scaleb(-scale) if most else Decimal(0)

    return make


def _build_record(struct: inspection.StructType) -> Maker:
    members = [(each.encode_name, build_maker(each.type, each.name), each.required) for each in struct.fields]

    def make(moment: Moment) -> dict[str, Any]:
        return {
            name: value
            for name, of_member, is_required in members
            if is_required or moment.random.random() < _PRESENT
            for value in [of_member(moment)]
            if value is not None or is_required
        }

    return make


def _build_list(inspected: Any, name: str) -> Maker:
    make = build_maker(inspected.item_type, name)
    least = getattr(inspected, "min_length", None) or 0
    most = getattr(inspected, "max_length", None)
    most = least + _MOST_ITEMS if most is None else most
    return lambda moment: [make(moment) for _ in range(moment.random.randint(least, min(most, least + _MOST_ITEMS)))]


def _list_examples(of_type: inspection.Type) -> Sequence[Any]:
    """What `Meta(examples=[...])` says, wherever it stands around the type."""
    while isinstance(of_type, inspection.Metadata):
        if found := (of_type.extra_json_schema or {}).get("examples"):
            return list(found)
        of_type = of_type.type
    if isinstance(of_type, inspection.UnionType):
        return next((found for each in of_type.types if (found := _list_examples(each))), ())
    return ()
