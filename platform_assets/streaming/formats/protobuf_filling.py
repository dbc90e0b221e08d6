"""Rows as Protobuf messages of the file that `protobuf_writing` has made of their shape, by Google's runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from platform_assets.streaming.formats.message_index import FIRST, write_index
from platform_assets.streaming.formats.protobuf_writing import ENTRIES, ITEMS, NULLS
from platform_assets.streaming.formats.shapes import Shape, require_one
from platform_assets.streaming.moments import count_micros

# A message or a container, and what is to be put there: never null.
_Fill = Callable[[Any, Any], None]

_MICROS = 1_000_000
# What stands at the place of a null among scalars.
_EMPTY: Mapping[str, Any] = {"text": "", "date": "", "bytes": b"", "int": 0, "float": 0.0, "bool": False}
# The default context rounds to 28 digits.
_EXACT = Context(prec=100)


def open_protobuf_writer(compiled: bytes, shape: Shape) -> Callable[[Mapping[str, Any]], bytes]:
    """The function from a row to the message index and the message. A column that a row does not have is null.

    `compiled` is a serialized set of files, each behind those that it imports; the record is the first message of the
    last one.
    """
    files = FileDescriptorSet.FromString(compiled).file
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    main = files[-1]
    name = f"{main.package}.{main.message_type[0].name}" if main.package else main.message_type[0].name
    descriptor = pool.FindMessageTypeByName(name)
    of, fill, index = message_factory.GetMessageClass(descriptor), _fill_record(shape, descriptor), write_index(FIRST)
    serialize = of.SerializeToString

    def write_row(row: Mapping[str, Any]) -> bytes:
        message = of()
        fill(message, row)
        return index + serialize(message)

    return write_row


def _fill_record(shape: Shape, descriptor: Descriptor) -> _Fill:
    fields = [(each.name, _fill_field(each.shape, descriptor.fields_by_name[each.name])) for each in shape.members]

    def fill(message: Any, row: Mapping[str, Any]) -> None:
        for name, put in fields:
            value = row.get(name)
            if value is not None:
                put(message, value)

    return fill


def _fill_field(shape: Shape, field: FieldDescriptor) -> _Fill:
    """Puts a value into a field of a message."""
    one, name = require_one(shape), field.name
    if field.is_repeated and one.item is not None:
        fill = _fill_map(one.item, field) if one.kind == "map" else _fill_list(one.item, field)
        return lambda message, value: fill(getattr(message, name), value)
    if field.message_type is None:
        if one.kind == "date":
            return lambda message, value: setattr(message, name, value.isoformat())
        return lambda message, value: setattr(message, name, value)
    inside = _fill_message(one, field.message_type)

    def fill_message(message: Any, value: Any) -> None:
        inner = getattr(message, name)
        inner.SetInParent()
        inside(inner, value)

    return fill_message


def _fill_message(shape: Shape, descriptor: Descriptor) -> _Fill:
    """Puts a value into the message that stands for it."""
    match shape.kind:
        case "timestamp":
            return _fill_timestamp
        case "decimal" if shape.digits is not None:
            return _fill_decimal(*shape.digits)
        case "list" if shape.item is not None:
            return _fill_wrapped_list(shape.item, descriptor)
        case "map" if shape.item is not None:
            return _fill_wrapped_map(shape.item, descriptor)
    return _fill_record(shape, descriptor)


def _fill_timestamp(message: Any, moment: Any) -> None:
    message.seconds, micros = divmod(count_micros(moment), _MICROS)
    message.nanos = micros * 1_000


def _fill_decimal(precision: int, scale: int) -> _Fill:
    def fill(message: Any, value: Decimal) -> None:
        unscaled = int(value.scaleb(scale, _EXACT))
        message.value = unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big", signed=True)
        message.precision, message.scale = precision, scale

    return fill


def _fill_list(item: Shape, field: FieldDescriptor) -> _Fill:
    """Puts items, none of which is null, into a repeated field."""
    one = require_one(item)
    if field.message_type is None:
        if one.kind == "date":
            return lambda items, value: items.extend([each.isoformat() for each in value])
        return lambda items, value: items.extend(value)
    inside = _fill_message(one, field.message_type)

    def fill(items: Any, value: Any) -> None:
        for each in value:
            inside(items.add(), each)

    return fill


def _fill_map(item: Shape, field: FieldDescriptor) -> _Fill:
    """Puts entries, none of which is null, into a map."""
    of, one = field.message_type.fields_by_name["value"], require_one(item)
    if of.message_type is None:
        if one.kind == "date":
            return lambda entries, value: entries.update({key: each.isoformat() for key, each in value.items()})
        return lambda entries, value: entries.update(value)
    inside = _fill_message(one, of.message_type)

    def fill(entries: Any, value: Mapping[str, Any]) -> None:
        for key, each in value.items():
            inside(entries[key], each)

    return fill


def _fill_wrapped_list(item: Shape, descriptor: Descriptor) -> _Fill:
    field = descriptor.fields_by_name[ITEMS]
    fill_items = _fill_list(item, field)
    empty = _EMPTY.get(require_one(item).kind)

    def fill(message: Any, value: Any) -> None:
        items = getattr(message, ITEMS)
        if None not in value:
            fill_items(items, value)
            return
        nulls = getattr(message, NULLS)
        for place, each in enumerate(value):
            if each is not None:
                fill_items(items, (each,))
                continue
            nulls.append(place)
            if field.message_type is None:
                items.append(empty)
            else:
                items.add()

    return fill


def _fill_wrapped_map(item: Shape, descriptor: Descriptor) -> _Fill:
    fill_entries = _fill_map(item, descriptor.fields_by_name[ENTRIES])

    def fill(message: Any, value: Mapping[str, Any]) -> None:
        known = {key: each for key, each in value.items() if each is not None}
        fill_entries(getattr(message, ENTRIES), known)
        if len(known) < len(value):
            getattr(message, NULLS).extend(key for key, each in value.items() if each is None)

    return fill
