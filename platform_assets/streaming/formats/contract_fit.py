"""Whether a topic's contract can read the records of a schema, and if not, why: in words, for people.

Judged by the schema alone, before any record: a field that no value of the schema could fill makes all its records
unreadable, and one that some values fit is judged value by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec.inspect as inspection

from platform_assets.streaming.formats.shapes import Shape, union_of
from platform_assets.streaming.record_types import RecordField, Unwrapped, find_choices, unwrap
from platform_assets.streaming.time_spellings import NANOS_PER_UNIT, TimeUnit

if TYPE_CHECKING:
    from platform_assets.streaming.topic_spec import Topic

# The kinds that are a text in JSON.
_TEXTS = ("text", "uuid", "enum", "date", "time", "timestamp", "local_timestamp", "duration")


def find_misfits(shape: Shape, topic: Topic) -> list[str]:
    """Why no record of a schema can be read; nothing where the contract can read them.

    A schema with several types of records is read where one of them is: what it says of the others is said a record.
    """
    fields = [each for each in topic.fields if each.name not in topic.headers]
    said = [[words for each in fields for words in _judge_field(record, each, topic)] for record in shape.choices]
    return min(said, key=len, default=["it has no record"])


def find_unknown(shape: Shape, topic: Topic) -> list[str]:
    """The fields of a schema's records that no field of the contract takes: they go into `unknown_fields`."""
    known = {each.path[0] for each in topic.fields}
    names = [member.name for record in shape.choices for member in record.members]
    return [name for name in dict.fromkeys(names) if name not in known]


def _judge_field(record: Shape, each: RecordField, topic: Topic) -> Iterator[str]:
    found: Shape | None = record
    for key in each.path:
        records = () if found is None else found.choices
        members = [member for of in records if (member := of.find(key)) is not None]
        if any(of.kind in ("any", "map") or (of.is_open and of.find(key) is None) for of in records):
            return
        found = union_of(*(member.shape for member in members)) if members else None
    name = ".".join(each.path)
    if found is None:
        if each.is_required:
            yield f"{name} is missing, and the contract has no default for it"
        return
    if each.is_required and not each.is_nullable and not found.choices:
        yield f"{name} is always null, and the contract requires it"
        return
    of = Unwrapped(each.inspected, each.is_nullable or not each.is_required, "", each.marks)
    if name == topic.event_time.field and topic.event_time.format and not any(s.kind == "text" for s in found.choices):
        yield f"{name} is {found.say()}, and the contract wants a text like {topic.event_time.format}"
        return
    unit = topic.event_time.unit if name == topic.event_time.field else each.marks.get("epoch")
    if name in topic.spellings and any(shape.kind in _TEXTS for shape in found.choices):
        return
    if unit is not None and any(_is_counted(shape, unit) for shape in found.choices):
        return
    if (words := _judge(found, of)) is not None:
        yield f"{name} is {found.say()}, {words}"


def _is_counted(shape: Shape, unit: TimeUnit) -> bool:
    """Whether a time can be counted in a unit, and kept in a column of microseconds, without loss."""
    if shape.kind != "timestamp" or shape.unit is None:
        return shape.kind == "timestamp"  # without a unit it is judged value by value
    return shape.unit != "ns" and NANOS_PER_UNIT[shape.unit] >= NANOS_PER_UNIT[unit]


def _judge(shape: Shape, of: Unwrapped) -> str | None:
    """What the contract wants instead, where no value of the shape fits the type."""
    said = [_judge_one(each, of) for each in shape.choices]
    if not said or None in said:
        return None
    return said[0]


def _judge_one(shape: Shape, of: Unwrapped) -> str | None:
    """The same for one type. JSON's form of a value says what fits: docs/formats.md."""
    if shape.kind == "any":
        return None
    wanted, kinds = _name_wanted(of)
    if shape.kind not in kinds:
        return f"and the contract wants {wanted}"
    inspected = of.inspected
    if shape.kind == "timestamp" or shape.kind == "local_timestamp":
        is_text = isinstance(inspected, inspection.StrType)
        return None if is_text or shape.unit != "ns" else "which a column cuts to microseconds: keep it as a str"
    if shape.kind == "enum" and (choices := find_choices(inspected)):
        is_any = not shape.symbols or set(choices) & set(shape.symbols)
        return None if is_any else f"none of which the contract has: {', '.join(map(str, choices[:8]))}"
    if shape.kind == "decimal" and shape.digits is not None and shape.digits[1] > of.marks["digits"][1]:
        return f"and the contract has {of.marks['digits'][1]} digits behind the point"
    if shape.item is not None:
        item = inspected.value_type if isinstance(inspected, inspection.DictType) else inspected.item_type  # type: ignore[attr-defined]
        return _judge(shape.item, unwrap(item))
    if shape.kind == "record" and not shape.is_recursive and isinstance(inspected, inspection.StructType):
        return _judge_members(shape, inspected)
    return None


def _judge_members(shape: Shape, struct: inspection.StructType) -> str | None:
    for member in struct.fields:
        found, of = shape.find(member.encode_name), unwrap(member.type)
        if found is None:
            if member.required and not shape.is_open:
                return f"in which {member.encode_name} is missing"
            continue
        if (words := _judge(found.shape, of)) is not None:
            return f"in which {member.encode_name} is {found.shape.say()}, {words}"
    return None


def _name_wanted(of: Unwrapped) -> tuple[str, Sequence[str]]:
    """A type of the contract in words, and the kinds whose values may fit it."""
    inspected = of.inspected
    if choices := find_choices(inspected):
        return (
            ("one of its texts", ("text", "enum"))
            if isinstance(choices[0], str)
            else ("a whole number", ("int", "number"))
        )
    match inspected:
        case inspection.StrType():
            return "a text", _TEXTS
        case inspection.IntType():
            return "a whole number", ("int", "number")
        case inspection.FloatType():
            return "a number", ("float", "int", "number")
        case inspection.BoolType():
            return "a boolean", ("bool",)
        case inspection.DecimalType():
            precision, scale = of.marks["digits"]
            return f"a decimal({precision},{scale})", ("decimal", "int", "text", "number")
        case inspection.DateTimeType():
            return "a moment", ("timestamp", "local_timestamp", "text")
        case inspection.DateType():
            return "a date", ("date", "text")
        case inspection.BytesType():
            return "bytes", ("bytes", "text")
        case inspection.StructType():
            return "an object", ("record",)
        case inspection.DictType():
            return "an object", ("map",)
    return "a list", ("list",)
