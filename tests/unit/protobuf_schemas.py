"""Protobuf schemas and messages that hypothesis makes, and what JSON they mean, by the runtime's own JSON form."""

from __future__ import annotations

import base64
import math
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)  # fmt: skip
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from hypothesis import strategies as st

BUILTIN = [
    FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for module in (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
]
_WELL_KNOWN = (
    "Timestamp", "Duration", "Struct", "Value", "ListValue", "Int64Value", "UInt64Value", "DoubleValue", "FloatValue",
    "BoolValue", "StringValue", "BytesValue", "Any",
)  # fmt: skip
# The runtime's own JSON does not stand names that its classes have, such as HasField.
_NAMES = ("id", "sentAt", "class", "from", "value", "key", "kind", "_a")
_SCALARS = [number for number in range(1, 19) if number not in (10, 11, 14)]
_MESSAGE, _ENUM, _GROUP = 11, 14, 10
_OPTIONAL, _REQUIRED, _REPEATED = 1, 2, 3
_KEYS = [number for number in _SCALARS if number not in (1, 2, 12)]
Draw = Any


@st.composite
def files(draw: Draw) -> FileDescriptorProto:
    """A file with one to three message types that may hold each other and themselves, and an enum."""
    syntax = draw(st.sampled_from(["proto2", "proto3"]))
    file = FileDescriptorProto(name="schema.proto", package=draw(st.sampled_from(["", "a", "a.b"])), syntax=syntax)
    file.dependency.extend(each.name for each in BUILTIN)
    kinds = file.enum_type.add(name="Kind")
    numbers = draw(st.lists(st.integers(-(2**31), 2**31 - 1).filter(bool), unique=True, max_size=3))
    for number in (0, *numbers):
        kinds.value.add(name=f"KIND_{number}".replace("-", "M"), number=number)
    names = ["M0", "M1", "M2"][: draw(st.integers(1, 3))]
    for name in names:
        message = file.message_type.add(name=name)
        for field_name in draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=6)):
            _add_field(draw, file, message, names, field_name)
    return file


def _add_field(
    draw: Draw, file: FileDescriptorProto, message: DescriptorProto, names: list[str], field_name: str
) -> None:
    number = draw(st.integers(1, 2000).filter(lambda n: all(n != each.number for each in message.field)))
    package = f".{file.package}" if file.package else ""
    kind = draw(st.sampled_from([*_SCALARS, _ENUM, _ENUM, _MESSAGE, _MESSAGE, _MESSAGE]))
    type_name = ""
    if kind == _ENUM:
        type_name = f"{package}.Kind"
    elif kind == _MESSAGE:
        known = [f".google.protobuf.{each}" for each in _WELL_KNOWN]
        type_name = draw(st.sampled_from([*known, *[f"{package}.{name}" for name in names] * 2]))
    labels = ["singular", "optional", "repeated", "map", "oneof"] + ["required"] * (
        file.syntax == "proto2" and kind != _MESSAGE
    )
    label = draw(st.sampled_from(labels))
    field = message.field.add(name=field_name, number=number, type=kind, label=_OPTIONAL, type_name=type_name or None)
    if label == "map":
        entry = message.nested_type.add(
            name=f"{''.join(part[:1].upper() + part[1:] for part in field_name.split('_'))}Entry"
        )
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=draw(st.sampled_from(_KEYS)), label=_OPTIONAL)
        entry.field.add(name="value", number=2, type=kind, label=_OPTIONAL, type_name=type_name or None)
        field.type, field.label = _MESSAGE, _REPEATED
        field.type_name = f"{package}.{message.name}.{entry.name}"
    elif label == "repeated":
        field.label = _REPEATED
        if kind not in (9, 11, 12):
            field.options.packed = draw(st.booleans())
    elif label == "required":
        field.label = _REQUIRED
    elif label != "singular":
        # A field of proto3 with presence lies alone in a oneof that the compiler makes, behind those that are written.
        is_own = label == "optional" and file.syntax == "proto3" and kind != _MESSAGE
        others = [each for each in message.field if each.HasField("oneof_index")]
        # The compiler wants the fields of a oneof one after the other.
        is_free = not others or message.field[-2] == others[-1]
        if label == "oneof" and is_free and not any(each.proto3_optional for each in message.field):
            field.oneof_index = 0
            if not message.oneof_decl:
                message.oneof_decl.add(name="choice")
        elif is_own:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field_name}")


def build_class(file: FileDescriptorProto, others: list[FileDescriptorProto] = BUILTIN) -> Any:
    """The class of a file's first message, as it is declared."""
    pool = descriptor_pool.DescriptorPool()
    for each in [*others, file]:
        pool.AddSerializedFile(each.SerializeToString())
    package = f"{file.package}." if file.package else ""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}{file.message_type[0].name}"))


_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.type
    if kind == _ENUM:
        # Numbers that the enum does not have are sent by a newer writer; a closed enum takes none.
        known = st.sampled_from([each.number for each in field.enum_type.values])
        return known if field.enum_type.is_closed else known | st.integers(-(2**31), 2**31 - 1)
    if kind in (1, 2):
        return _FLOATS if kind == 1 else st.floats(width=32, allow_nan=False, allow_infinity=False)
    if kind in (8, 9, 12):
        return {8: st.booleans(), 9: _TEXTS, 12: st.binary(max_size=5)}[kind]
    bits = 64 if kind in (3, 4, 6, 16, 18) else 32
    is_unsigned = kind in (4, 6, 7, 13)
    return st.integers(0, 2**bits - 1) if is_unsigned else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def fill(draw: Draw, message: Any, depth: int = 0) -> None:
    """Sets fields of a message to values of any kind; well-known types have values that they allow."""
    of = type(message).DESCRIPTOR
    if of.full_name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(-62_135_596_800, 253_402_300_799))
        message.nanos = draw(st.integers(0, 999_999_999) | st.integers(0, 999_999).map(lambda n: n * 1000))
        return
    if of.full_name == "google.protobuf.Duration":
        sign = draw(st.sampled_from([-1, 1]))
        message.seconds = sign * draw(st.integers(0, 315_576_000_000))
        message.nanos = sign * draw(st.integers(0, 999_999_999))
        return
    if of.full_name == "google.protobuf.Value":
        _fill_value(draw, message, depth)
        return
    if of.full_name == "google.protobuf.Any":
        return
    for field in of.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if field.is_required or (draw(st.booleans()) and depth < 3):
            _fill_field(draw, message, field, is_map, depth)


def _fill_value(draw: Draw, message: Any, depth: int) -> None:
    kinds = ["null_value", "number_value", "string_value", "bool_value"] + ["struct_value", "list_value"] * (depth < 3)
    kind = draw(st.sampled_from(kinds))
    if kind in ("struct_value", "list_value"):
        getattr(message, kind).SetInParent()
        fill(draw, getattr(message, kind), depth + 1)
        return
    values = {"null_value": st.just(0), "number_value": _FLOATS, "string_value": _TEXTS, "bool_value": st.booleans()}
    setattr(message, kind, draw(values[kind]))


def _fill_field(draw: Draw, message: Any, field: FieldDescriptor, is_map: bool, depth: int) -> None:
    if is_map:
        members = field.message_type.fields_by_name
        for key in draw(st.lists(_scalars(members["key"]), max_size=3, unique=True)):
            if members["value"].message_type is None:
                getattr(message, field.name)[key] = draw(_scalars(members["value"]))
            else:
                fill(draw, getattr(message, field.name)[key], depth + 1)
    elif field.message_type is not None:
        if not field.is_repeated:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(draw, inner, depth + 1)
            return
        for _ in range(draw(st.integers(0, 3))):
            fill(draw, getattr(message, field.name).add(), depth + 1)
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalars(field)))


def expect(message: Any) -> Any:
    """The plain value of a message, out of the runtime's JSON: what that writes as a text, turned back."""
    document = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _turn_back(type(message).DESCRIPTOR, document)


def _turn_back(of: Descriptor, document: Any) -> Any:
    match of.full_name:
        case "google.protobuf.Timestamp":
            fraction = document.rstrip("Z").partition(".")[2].ljust(9, "0")
            moment = datetime.fromisoformat(f"{document.rstrip('Z').partition('.')[0]}+00:00")
            if int(fraction) % 1000:
                return f"{document[:19]}.{fraction}Z"
            return moment.replace(microsecond=int(fraction) // 1000)
        case "google.protobuf.Duration":
            whole, _, fraction = document.removesuffix("s").lstrip("-").partition(".")
            sign = "-" if document.startswith("-") else ""
            return f"{sign}PT{whole}{f'.{fraction:0<9}' if fraction else ''}S"
        case "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue":
            return _turn_numbers(document)
        case "google.protobuf.Any":
            return {"@type": "", "value": b""}
    if of.full_name.startswith("google.protobuf.") and of.full_name.endswith("Value"):
        return _turn_item(of.fields_by_name["value"], document)
    return {name: _turn_field(of.fields_by_name[name], value) for name, value in document.items()}


def _turn_numbers(found: Any) -> Any:
    """Any JSON: its numbers are doubles, and a whole one that no other number stands for is whole in our values."""
    if isinstance(found, dict):
        return {name: _turn_numbers(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_turn_numbers(value) for value in found]
    if not isinstance(found, float) or found % 1 or abs(found) > 2**53:
        return found
    return int(found) if found or math.copysign(1, found) > 0 else found


def _turn_field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {str(key): _turn_item(inner, item) for key, item in value.items()}
    return [_turn_item(field, item) for item in value] if field.is_repeated else _turn_item(field, value)


def _turn_item(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _turn_back(field.message_type, value)
    match field.type:
        case 3 | 4 | 6 | 16 | 18:
            return int(value)
        case 12:
            return base64.b64decode(value)
        case 2:
            return struct.unpack("f", struct.pack("f", value))[0]
    return value


def agree(found: Any, expected: Any) -> bool:
    """Whether two plain values are the same, in type too: 1 is not 1.0, and -0.0 is not 0.0."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(agree(found[name], value) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(agree, found, expected))
    if isinstance(expected, float) and isinstance(found, float):
        return found == expected and math.copysign(1, found) == math.copysign(1, expected)
    return type(found) is type(expected) and found == expected


def fits(shape: Any, value: Any) -> bool:
    """Whether a plain value is one of a shape."""
    kinds: dict[str, tuple[type, ...]] = {
        "bool": (bool,), "int": (int,), "float": (float,), "decimal": (Decimal,), "text": (str,), "bytes": (bytes,),
        "duration": (str,), "timestamp": (datetime, str),
    }  # fmt: skip
    match shape.kind:
        case "any":
            return True
        case "enum":
            return type(value) is int or value in shape.symbols
        case "list":
            return isinstance(value, list) and all(fits(shape.item, each) for each in value)
        case "map":
            return isinstance(value, dict) and all(fits(shape.item, each) for each in value.values())
        case "record" if shape.is_recursive:
            return isinstance(value, dict)
        case "record":
            missing = {each.name for each in shape.members if not each.may_be_absent} - value.keys()
            return not missing and all(fits(shape.find(name).shape, each) for name, each in value.items())
    is_whole = shape.kind != "int" or -(2 ** (min(shape.bits, 64) - 1)) <= value < 2 ** (shape.bits - 1)
    return type(value) in kinds[shape.kind] and is_whole
