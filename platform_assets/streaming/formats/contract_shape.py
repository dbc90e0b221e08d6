"""The shape of a topic's records by its contract: what a sender's schema says whose values the contract takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import msgspec.inspect as inspection

from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.shapes import Member, Shape, nullable, require_one
from platform_assets.streaming.record_types import INT32_MAX, RecordField, Unwrapped, find_choices, unwrap
from platform_assets.streaming.topic_spec import Topic

_SCALARS: dict[type[inspection.Type], Shape] = {
    inspection.StrType: Shape("text"), inspection.FloatType: Shape("float"), inspection.BoolType: Shape("bool"),
    inspection.DateTimeType: Shape("timestamp", unit="us"), inspection.DateType: Shape("date"),
    inspection.BytesType: Shape("bytes"),
}  # fmt: skip
# A spelling takes a text, and brings it into the one that the type accepts.
_SPELLED = ("text", "timestamp", "date")


def read_contract_shape(topic: Topic) -> Shape:
    """The shape of a topic's values. A field lies at its key, or at its path of keys."""
    return _Contract(topic).read()


def fit_protobuf(shape: Shape, name: str = "") -> Shape:
    """The shape by which such values are written in Protobuf, for the contract to read them as it is.

    A list or a map that may be null is one that may be empty. Raises `SchemaError`, about the member `name`, for what
    Protobuf has no place for within a list or a map: null, and another list or map.
    """
    one = require_one(shape)
    if one.item is not None:
        item = require_one(one.item)
        if one.item.is_nullable or item.item is not None:
            what = "null" if one.item.is_nullable else f"a {item.kind}"
            raise SchemaError(f"{name} may have {what} in it, for which Protobuf has no place in a list or a map")
        return replace(one, item=fit_protobuf(item, name))
    if one.kind == "record":
        members = [replace(each, shape=fit_protobuf(each.shape, each.name)) for each in one.members]
        one = replace(one, members=tuple(members))
    return nullable(one) if shape.is_nullable else one


class _Contract:
    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        record = inspection.type_info(topic.record)
        assert isinstance(record, inspection.StructType), "A topic's record is one."
        self._defaults = {each.name: _find_default(each) for each in record.fields}

    def read(self) -> Shape:
        return self._read_level([(each, each.path) for each in self._topic.fields], self._topic.name)

    def _read_level(self, fields: Iterable[tuple[RecordField, tuple[str, ...]]], name: str) -> Shape:
        """A record with a member for each key; `fields` with the rest of their paths."""
        below: dict[str, list[tuple[RecordField, tuple[str, ...]]]] = {}
        for each, path in fields:
            below.setdefault(path[0], []).append((each, path[1:]))
        members = []
        for key, inside in below.items():
            each, rest = inside[0]
            is_absent = not any(of.is_required for of, _ in inside)
            if rest:
                shape = self._read_level(inside, f"{name}_{key}")
                members.append(Member(key, nullable(shape) if is_absent else shape, is_absent))
                continue
            of = Unwrapped(each.inspected, each.is_nullable, "", each.marks)
            shape = self._read(of, f"{name}_{key}")
            if each.name in self._topic.spellings and shape.kind in _SPELLED:
                shape = Shape("text")
            shape = nullable(shape) if each.is_nullable else shape
            members.append(Member(key, shape, is_absent, each.description, default=self._defaults[each.name]))
        return Shape("record", members=tuple(members), name=name)

    def _read(self, of: Unwrapped, name: str) -> Shape:
        """The shape of a type, null apart; `name` is that of a record there."""
        inspected = of.inspected
        if choices := find_choices(inspected):
            return Shape("text") if isinstance(choices[0], str) else Shape("int")
        match inspected:
            case inspection.IntType():
                is_short = (
                    inspected.le is not None
                    and inspected.le <= INT32_MAX
                    and inspected.ge is not None
                    and inspected.ge > -INT32_MAX
                )
                return Shape("int", bits=32 if is_short else 64)
            case inspection.DecimalType():
                return Shape("decimal", digits=of.marks["digits"])
            case inspection.StructType():
                return self._read_record(inspected, name)
            case inspection.DictType():
                return Shape("map", item=self._read_item(inspected.value_type, name))
        if (scalar := _SCALARS.get(type(inspected))) is not None:
            return scalar
        item: Any = inspected
        return Shape("list", item=self._read_item(item.item_type, name))

    def _read_item(self, item: inspection.Type, name: str) -> Shape:
        of = unwrap(item)
        shape = self._read(of, name)
        return nullable(shape) if of.is_nullable else shape

    def _read_record(self, struct: inspection.StructType, name: str) -> Shape:
        members = []
        for each in struct.fields:
            of = unwrap(each.type)
            shape = self._read(of, f"{name}_{each.encode_name}")
            shape = nullable(shape) if of.is_nullable else shape
            default = _find_default(each)
            members.append(Member(each.encode_name, shape, not each.required, of.description, default=default))
        return Shape("record", members=tuple(members), name=name)


def _find_default(of: inspection.Field) -> Any:
    """What a field is where it is absent, as its JSON form has it in Python's own types."""
    if of.default is not msgspec.NODEFAULT:
        found = of.default
    elif of.default_factory is not msgspec.NODEFAULT:
        found = of.default_factory()
    else:
        return None
    return msgspec.to_builtins(found, builtin_types=(bytes, datetime, date, Decimal))
