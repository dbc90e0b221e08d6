"""The shape of a Protobuf message type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from platform_assets.streaming.formats.protobuf_plan import name_numbers
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.protobuf_well_known import WRAPPERS, find_well_known
from platform_assets.streaming.formats.shape_budget import ShapeBudget, build_within
from platform_assets.streaming.formats.shapes import Member, Shape

_ANY = Shape("any")
_INT, _INT32, _UINT64 = Shape("int", bits=64), Shape("int", bits=32), Shape("int", bits=65)
_SCALARS: Mapping[Any, Shape] = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    # An unsigned number of 32 bits needs 33 bits with a sign.
    FieldDescriptor.TYPE_UINT32: _INT,
    FieldDescriptor.TYPE_FIXED32: _INT,
    FieldDescriptor.TYPE_INT64: _INT,
    FieldDescriptor.TYPE_SINT64: _INT,
    FieldDescriptor.TYPE_SFIXED64: _INT,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_BOOL: Shape("bool"),
    FieldDescriptor.TYPE_STRING: Shape("text"),
    FieldDescriptor.TYPE_BYTES: Shape("bytes"),
    FieldDescriptor.TYPE_DOUBLE: Shape("float"),
    FieldDescriptor.TYPE_FLOAT: Shape("float"),
}
_WRAPPED: Mapping[str, Any] = {
    f"google.protobuf.{kind}Value": getattr(FieldDescriptor, f"TYPE_{kind.upper()}") for kind in WRAPPERS
}
_WELL_KNOWN: Mapping[str, Shape] = {
    # Without a unit: most are whole microseconds, though they may have nanoseconds. Values are judged one by one.
    "google.protobuf.Timestamp": Shape("timestamp"),
    "google.protobuf.Duration": Shape("duration"),
    "google.protobuf.Struct": Shape("map", item=_ANY),
    "google.protobuf.Value": _ANY,
    "google.protobuf.ListValue": Shape("list", item=_ANY),
    "confluent.type.Decimal": Shape("decimal"),
} | {name: _SCALARS[kind] for name, kind in _WRAPPED.items()}


def read_message_shape(descriptor: Descriptor, types: MessageTypes, comments: Mapping[str, str]) -> Shape:
    """The shape of a message type's values. Fields with presence may be absent, but for those that are required.

    `comments` are those of fields, by full name.
    """

    def read_message(message: Descriptor, outer: tuple[str, ...], budget: ShapeBudget) -> Shape:
        name = message.full_name
        if name in outer:
            return Shape("record", name=name, is_recursive=True)
        inner = (*outer, name)
        members = tuple(read_member(each, inner, budget) for each in message.fields)
        return Shape("record", name=name, members=members)

    def read_member(field: FieldDescriptor, outer: tuple[str, ...], budget: ShapeBudget) -> Member:
        budget.take()
        may_be_absent = field.has_presence and not field.is_required
        shape = read_field(field, outer, budget)
        return Member(field.name, shape, may_be_absent, comments.get(field.full_name, ""))

    def read_field(field: FieldDescriptor, outer: tuple[str, ...], budget: ShapeBudget) -> Shape:
        if not field.is_repeated:
            return read_item(field, outer, budget)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            return Shape("map", item=read_item(value, outer, budget))
        return Shape("list", item=read_item(field, outer, budget))

    def read_item(field: FieldDescriptor, outer: tuple[str, ...], budget: ShapeBudget) -> Shape:
        if field.enum_type is not None:
            return _read_enum(field)
        message = field.message_type
        if message is None:
            return _SCALARS[field.type]
        if find_well_known(message.full_name, message.file.name) is not None:
            return _read_well_known(field, types)
        if message.full_name == "google.protobuf.Any" or len(outer) >= budget.depth:
            return _ANY
        return read_message(message, outer, budget)

    return build_within(lambda budget: read_message(descriptor, (), budget))


def _read_enum(field: FieldDescriptor) -> Shape:
    numbers = name_numbers(field)
    if numbers == {0: None}:
        return Shape("null")
    # In the order of the declaration, and one name a number: that is what values have.
    symbols = tuple(each.name for each in field.enum_type.values if numbers[each.number] == each.name)
    return Shape("enum", symbols=symbols, name=field.enum_type.full_name)


def _read_well_known(field: FieldDescriptor, types: MessageTypes) -> Shape:
    shape = _WELL_KNOWN[field.message_type.full_name]
    if shape.kind != "decimal":
        return shape
    found = types.read_parameters(field)
    precision, scale = found.get("precision", ""), found.get("scale", "0")
    if not (precision.isascii() and precision.isdigit() and scale.isascii() and scale.isdigit()):
        return shape
    return Shape("decimal", digits=(int(precision[:9]), int(scale[:9])))
