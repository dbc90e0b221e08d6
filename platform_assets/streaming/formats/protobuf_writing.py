"""Protobuf for readers outside of the platform: the .proto file of a shape.

A list or a map that may be null, or may hold nulls, is a message of its own, for Protobuf has neither: `items` or
`entries`, and `nulls`, which says where null stands. All others are `repeated` and `map`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from platform_assets.streaming.formats.shapes import Member, Shape, require_one
from platform_assets.streaming.formats.written_names import FreeNames, require_name

ITEMS, ENTRIES, NULLS = "items", "entries", "nulls"
"""The fields of such a message."""

# A day is a text: `google.type.Date` also has days that are none, and a reader's column of days has no place for it.
_SCALARS: Mapping[str, str] = {
    "bool": "bool", "float": "double", "text": "string", "bytes": "bytes", "date": "string",
}  # fmt: skip
_TIMESTAMP = ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto")
_DECIMAL = ("confluent.type.Decimal", "confluent/type/decimal.proto")
_FIELD_META = "confluent/meta.proto"


def write_protobuf_schema(shape: Shape) -> str:
    """The text of a .proto file whose first message is the record. Raises `SchemaError` for a name that it cannot have.

    The compiler has the last word: `compile_files`.
    """
    package, _, name = shape.name.rpartition(".")
    file = _File()
    message = file.write_message(shape, name_message(name))
    lines = ['syntax = "proto3";', *([f"package {package};"] if package else []), ""]
    lines += [f'import "{each}";' for each in sorted(file.imports)]
    return "\n".join([*lines, "", *message, ""])


def name_message(name: str) -> str:
    """The name of a message type for a table, a column or a field: `high_value_users` gives `HighValueUsers`."""
    return "".join(part[:1].upper() + part[1:] for part in require_name(name, "Protobuf").split("_")) or "Value"


def is_wrapped(shape: Shape, is_field: bool) -> bool:
    """Whether a list or a map is a message of its own; `is_field`: it is a field, and lies in no list or map."""
    [one] = shape.choices
    return not is_field or shape.is_nullable or one.item is None or one.item.is_nullable


class _Scope:
    """A message that is being written: its fields, and the types that are declared in it."""

    def __init__(self, fields: Iterable[str]) -> None:
        self.names = FreeNames(fields)
        self.lines: list[str] = []
        self.types: list[list[str]] = []

    def render(self, name: str) -> list[str]:
        inner = [*self.lines, *(line for each in self.types for line in ("", *each))]
        return [f"message {name} {{", *(f"  {line}" if line else line for line in inner), "}"]


class _File:
    """Writes the messages of one file, and notes what they import."""

    def __init__(self) -> None:
        self.imports: set[str] = set()

    def write_message(self, shape: Shape, name: str) -> list[str]:
        scope = _Scope(require_name(member.name, "Protobuf") for member in shape.members)
        for place, member in enumerate(shape.members, 1):
            if member.description:
                scope.lines.append(f"// {' '.join(member.description.split())}")
            field, number = self._declare(member, scope), member.number or place
            scope.lines += f"{field} = {number}{self._options(member.shape)};".splitlines()
        return scope.render(name)

    def _declare(self, member: Member, scope: _Scope) -> str:
        one = require_one(member.shape)
        if one.item is not None and not is_wrapped(member.shape, is_field=True):
            of = self._name_type(one.item, scope, member.name)
            return f"repeated {of} {member.name}" if one.kind == "list" else f"map<string, {of}> {member.name}"
        of = self._name_type(one, scope, member.name)
        has_presence = one.kind not in _SCALARS and one.kind != "int"
        return f"{'optional ' if member.shape.is_nullable and not has_presence else ''}{of} {member.name}"

    def _name_type(self, shape: Shape, scope: _Scope, name: str) -> str:
        """The type of a value that is not repeated; it is declared where there is none yet."""
        one = require_one(shape)
        match one.kind:
            case "int":
                return "int32" if one.bits == 32 else "int64"
            case "timestamp":
                return self._import(*_TIMESTAMP)
            case "decimal":
                return self._import(*_DECIMAL)
            case "record":
                of = scope.names.take(name_message(name))
                scope.types.append(self.write_message(one, of))
                return of
            case "list" | "map" if one.item is not None:
                of = scope.names.take(f"{name_message(name)}{one.kind.capitalize()}")
                scope.types.append(self._write_wrapper(one, one.item, of))
                return of
        return _SCALARS[one.kind]

    def _write_wrapper(self, shape: Shape, item: Shape, name: str) -> list[str]:
        scope = _Scope((ITEMS, ENTRIES, NULLS))
        of, options = self._name_type(item, scope, "item"), self._options(item)
        if shape.kind == "list":
            scope.lines += f"repeated {of} {ITEMS} = 1{options};".splitlines()
            nulls = ("// Places of items that are null: an empty one stands there.", f"repeated int32 {NULLS} = 2;")
        else:
            scope.lines.append(f"map<string, {of}> {ENTRIES} = 1;")
            nulls = ("// Keys whose value is null: they have no entry.", f"repeated string {NULLS} = 2;")
        if item.is_nullable:
            scope.lines += nulls
        return scope.render(name)

    def _options(self, shape: Shape) -> str:
        """The digits of a decimal, as Confluent's converters read them. Of a map's value there is no place for them."""
        one = require_one(shape)
        if one.kind == "list" and one.item is not None and not is_wrapped(shape, is_field=True):
            one = require_one(one.item)
        if one.kind != "decimal" or one.digits is None:
            return ""
        self.imports.add(_FIELD_META)
        pairs: list[tuple[str, Any]] = [("precision", one.digits[0]), ("scale", one.digits[1])]
        parameters = ", ".join(f'{{ key: "{key}", value: "{value}" }}' for key, value in pairs)
        return f" [(confluent.field_meta) = {{\n  params: [{parameters}]\n}}]"

    def _import(self, of: str, path: str) -> str:
        self.imports.add(path)
        return of
