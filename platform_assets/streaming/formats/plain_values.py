"""Plain values of a schema's reader, fitted to a topic's contract, and as the JSON text that the contract judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as inspection

from platform_assets.streaming.formats.contract_fit import find_unknown
from platform_assets.streaming.formats.precise_moments import Check, find_check
from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.shapes import Member, Shape, union_of
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.time_spellings import NANOS_PER_UNIT

if TYPE_CHECKING:
    from platform_assets.streaming.record_types import RecordField
    from platform_assets.streaming.topic_spec import Topic

Plain = dict[str, Any]
Adapt = Callable[[Any], Any]

write_json = msgspec.json.Encoder(decimal_format="number").encode
"""The JSON form of a plain value, exact: decimals with all their digits, bytes as base64, moments as RFC 3339."""


@dataclass(frozen=True)
class Adaptation:
    """What is done to the plain values of one schema before a topic's contract judges them.

    `adapt` by path: a moment as the text or the number that the contract has for it. `unknown` are the members at the
    top that no field takes. `within`: the member of the record that the values are; empty: they are the record.
    """

    adapt: tuple[tuple[tuple[str, ...], Adapt], ...]
    unknown: tuple[str, ...]
    within: str = ""

    def apply(self, plains: Sequence[Plain]) -> None:
        """Adapts values in place; a second time changes nothing.

        Raises `UndecodableError` for a moment that the contract's type would cut.
        """
        roots = [{self.within: plain} for plain in plains] if self.within and self.adapt else plains
        for path, adapt in self.adapt:
            *outer, last = path
            for root in roots:
                within: Any = root
                for key in outer:
                    within = within.get(key) if isinstance(within, dict) else None
                if isinstance(within, dict) and within.get(last) is not None:
                    within[last] = adapt(within[last])

    def take_unknown(self, plain: Plain) -> str | None:
        """Takes out of a value what no field takes, as JSON; None for nothing. Members nested deeper stay."""
        found = {name: plain.pop(name) for name in self.unknown if name in plain}
        return write_json(found).decode() if found else None


def plan_adaptation(shape: Shape, topic: Topic) -> Adaptation:
    """What the values of a schema need for a contract."""
    adapted = [(each.path, adapt) for each in topic.fields if (adapt := _find(shape, each, topic)) is not None]
    return Adaptation(tuple(adapted), tuple(find_unknown(shape, topic)))


def plan_data(shape: Shape, topic: Topic, within: str) -> Adaptation:
    """What such values need that are one member of the topic's record."""
    whole = plan_adaptation(Shape("record", members=(Member(within, shape),)), topic)
    return Adaptation(whole.adapt, (), within)


def _find(shape: Shape, each: RecordField, topic: Topic) -> Adapt | None:
    found = tuple(of for record in shape.choices for of in _walk_to(record, each.path))
    if not found:
        return None
    if (check := find_check(each.inspected, union_of(*found), each.name)) is not None:
        return lambda value: _checked(check, value)
    if not {of.kind for of in found} & {"timestamp", "local_timestamp", "date"}:
        return None
    unit = topic.event_time.unit if each.name == topic.event_time.field else each.marks.get("epoch")
    if unit is not None:
        return lambda value: _count(value, NANOS_PER_UNIT[unit], each.name)
    if isinstance(each.inspected, inspection.StrType):
        return lambda value: _write_time(value) if isinstance(value, date) else value
    return None


def _checked(check: Check, value: Any) -> Any:
    check(value)
    return value


def _walk_to(shape: Shape, path: Sequence[str]) -> tuple[Shape, ...]:
    if not path:
        return shape.choices
    member = shape.find(path[0])
    if member is None:
        return ()
    return tuple(of for choice in member.shape.choices for of in _walk_to(choice, path[1:]))


def _count(value: Any, unit_nanos: int, name: str) -> Any:
    """A moment as a number of units; other values, and moments without a zone, are left to the contract."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    count, rest = divmod(count_micros(value) * 1_000, unit_nanos)
    if rest:
        raise UndecodableError(f"{name} has parts of a unit that the contract counts in: {value.isoformat()}")
    return count


def _write_time(value: date) -> str:
    """The text that JSON has for a day or a moment."""
    text = value.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text
