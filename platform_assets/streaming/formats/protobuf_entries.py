"""Maps that a schema's text spells as messages with `option map_entry`: Apicurio's serializer for Java does so.

The compiler refuses that option in a text. So it is given a reserved name in the option's place, and what it compiled
gets the option back: then it is what it would be if the text had said `map<K, V>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from platform_assets.streaming.formats.reader import SchemaError

# No field may have this name then. It is longer than a name that somebody would choose.
_MARK = "headrace_stands_for_option_map_entry"
# Comments and texts are matched to be left as they are.
_PARTS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(?<![\w.])option\s+map_entry\s*=\s*true\s*;""",
    re.DOTALL,
)
_KEY_TYPES = frozenset(
    getattr(FieldDescriptorProto, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "FIXED32", "FIXED64", "SFIXED32", "SFIXED64",
                 "BOOL", "STRING")
)  # fmt: skip
_REPEATED = FieldDescriptorProto.LABEL_REPEATED


def mark_entries(text: str) -> str:
    """The text of a .proto file as the compiler takes it; another one than that is returned as it is."""
    if "map_entry" not in text:
        return text
    return _PARTS.sub(lambda part: f'reserved "{_MARK}";' if part[0].startswith("option") else part[0], text)


def restore_entries(file: FileDescriptorProto) -> FileDescriptorProto:
    """The compiled file with its marked messages as entries of maps; it is changed in place.

    Raises `SchemaError` for a marked message that no map has: the runtime would read it in some way of its own.
    """
    package = f".{file.package}" if file.package else ""
    for message in file.message_type:
        if _MARK in message.reserved_name:
            raise _refuse(f"{package}.{message.name}")
        _restore_nested(message, f"{package}.{message.name}")
    return file


def _restore_nested(outer: DescriptorProto, name: str) -> None:
    for message in outer.nested_type:
        own = f"{name}.{message.name}"
        _restore_nested(message, own)
        if _MARK not in message.reserved_name:
            continue
        fields = [each for each in outer.field if each.type_name == own]
        if not _is_entry(message) or not _is_only_map(fields, message.name):
            raise _refuse(own)
        message.reserved_name.remove(_MARK)
        message.options.map_entry = True
        for each in message.field:  # `optional` in proto3; an entry's members always have presence
            each.ClearField("proto3_optional")
            each.ClearField("oneof_index")
        del message.oneof_decl[:]


def _is_only_map(fields: Sequence[FieldDescriptorProto], entry: str) -> bool:
    return len(fields) == 1 and fields[0].label == _REPEATED and _name_entry(fields[0].name) == entry


def _is_entry(message: DescriptorProto) -> bool:
    members = {each.number: each for each in message.field}
    others = (
        message.nested_type,
        message.enum_type,
        message.extension,
        message.extension_range,
        message.reserved_range,
    )
    return (
        {number: each.name for number, each in members.items()} == {1: "key", 2: "value"}
        and members[1].type in _KEY_TYPES
        and all(each.label != _REPEATED for each in message.field)
        and members[2].type != FieldDescriptorProto.TYPE_GROUP
        and not any(others)
        and list(message.reserved_name) == [_MARK]
    )


def _name_entry(field: str) -> str:
    """The name that the compiler gives to the entry of a map."""
    return "".join(part[:1].upper() + part[1:] for part in field.split("_")) + "Entry"


def _refuse(name: str) -> SchemaError:
    return SchemaError(f"{name.removeprefix('.')} has the option map_entry, and is not the entry of a map")
