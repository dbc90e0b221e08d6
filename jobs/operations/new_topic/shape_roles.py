"""Which fields of a schema play a part: by name and type, for there are no values to look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from jobs.operations.new_topic.field_names import split_name
from jobs.operations.new_topic.roles import (
    BY_SAMPLES,
    GROUPS,
    OTHER_TIME,
    PEOPLE,
    TYPES,
    rank_id,
    rank_subject,
    rank_time,
)
from jobs.operations.new_topic.shape_types import is_required
from jobs.operations.new_topic.times import FoundTime
from platform_assets.streaming.formats.shapes import Member, Shape
from platform_assets.streaming.time_spellings import TimeUnit

Members: TypeAlias = Mapping[str, Member]
"""Members of the record, by their place in JSON: dots lead deeper."""

_UNITS: dict[str, TimeUnit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "milli", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "micro", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nano", "nanos", "nanosecond", "nanoseconds"), "ns"),
}  # fmt: skip
# In a sentence these are other words, too.
_AMBIGUOUS = {"s", "sec", "second", "us", "micro", "milli", "nano"}
# A number or a text is taken for a moment only where its name ends so: `items_sent` and `created_by` are none.
_LAST_WORDS = {"time", "timestamp", "ts", "at", "datetime", "when", "epoch"}
_ALONE = (["created"], ["occurred"])


@dataclass(frozen=True)
class TimeMember:
    """A field that may say when a record happened. `found` is None for a number of which the unit is not known."""

    key: str
    found: FoundTime | None
    python: str
    is_certain: bool
    """Whether the schema says that it is a moment, and not its name only."""


def rank_times(members: Members, absent_is_usual: bool) -> list[TimeMember]:
    """The fields that may say when a record happened, the best first.

    `absent_is_usual`: the format has no moments that are always there (Protobuf), so that one may be absent.
    """
    ranked = []
    for order, (key, member) in enumerate(members.items()):
        if (found := _read_time(key, member)) is None:
            continue
        rank = rank_time(_take_unit(split_name(key))[0])
        is_optional = member.shape.is_nullable or (member.may_be_absent and not absent_is_usual)
        ranked.append(((rank == OTHER_TIME, is_optional, not found.is_certain, rank, order), found))
    return [found for _, found in sorted(ranked, key=lambda each: each[0])]


def find_subject_member(members: Members) -> str | None:
    """The field that says whose record it is."""
    ranked = [
        (rank, order, key)
        for order, (key, member) in enumerate(members.items())
        if _is_id(member) and (rank := rank_subject(split_name(key))) is not None
    ]
    return min(ranked)[2] if ranked else None


def find_id_member(members: Members, names: list[list[str]], subject: str | None) -> str | None:
    """The field that is the record's own id, by its name or type.

    `names` are words for the record: an `order` has an `order_id`.
    """
    ranked = []
    for order, (key, member) in enumerate(members.items()):
        words = split_name(key.rsplit(".", 1)[-1])
        if key == subject or not _is_id(member) or set(words) & PEOPLE:
            continue
        is_uuid = _one(member.shape).kind == "uuid"
        ranks = [rank for name in names if (rank := rank_id(words, name, is_uuid)) is not None]
        if ranks and min(ranks) < BY_SAMPLES:
            ranked.append((min(ranks), order, key))
    return min(ranked)[2] if ranked else None


def find_type_member(members: Members) -> str | None:
    """The field of the records' types: an enum or a text, named as one."""
    for words in TYPES:
        for key, member in members.items():
            if split_name(key.rsplit(".", 1)[-1]) == words and _one(member.shape).kind in ("enum", "text"):
                return key
    return None


def find_group_member(members: Members) -> str | None:
    """The field to count records by: an enum or a boolean, or a text that is named as one of few values."""
    ranked = []
    for order, (key, member) in enumerate(members.items()):
        kind = _one(member.shape).kind
        name = next((rank for rank, word in enumerate(GROUPS) if word in split_name(key)[-1:]), len(GROUPS))
        if kind in ("enum", "bool") or (kind == "text" and name < len(GROUPS)):
            ranked.append((name, kind == "bool", not is_required(member), order, key))
    return min(ranked)[-1] if ranked else None


def _one(shape: Shape) -> Shape:
    """The only type that is not null; any other is of no use for a role."""
    choices = shape.choices
    return choices[0] if len(choices) == 1 else Shape("any")


def _is_id(member: Member) -> bool:
    shape = _one(member.shape)
    is_kind = shape.kind in ("text", "uuid") or (shape.kind == "int" and shape.bits <= 64)
    return is_kind and is_required(member)


def _read_time(key: str, member: Member) -> TimeMember | None:
    shape = _one(member.shape)
    if shape.kind in ("timestamp", "local_timestamp"):
        return TimeMember(key, FoundTime(), "str" if shape.unit == "ns" else "datetime", is_certain=True)
    words, unit = _take_unit(split_name(key.rsplit(".", 1)[-1]))
    if not (words[-1:] and words[-1] in _LAST_WORDS) and words not in _ALONE:
        return None
    if shape.kind == "text":
        return TimeMember(key, FoundTime(), "str", is_certain=False)
    if shape.kind not in ("int", "float", "number") or shape.bits > 64:
        return None
    unit = unit or _read_unit(member.description)
    is_fraction = shape.kind != "int"
    found = None if unit is None else FoundTime(unit=unit, is_fraction=is_fraction)
    return TimeMember(key, found, "float" if is_fraction else "int", is_certain=False)


def _take_unit(words: list[str]) -> tuple[list[str], TimeUnit | None]:
    """The words of a name without its unit, and the unit: `created_at_ms` has one."""
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    return (words, None) if unit is None else ([each for each in words[:-1] if each != "in"], unit)


def _read_unit(description: str) -> TimeUnit | None:
    """The unit that a sentence names, if it is one."""
    words = set(re.findall(r"[a-z]+", description.lower())) - _AMBIGUOUS
    units = {_UNITS[word] for word in words & _UNITS.keys()}
    return units.pop() if len(units) == 1 else None
