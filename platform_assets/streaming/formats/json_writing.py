"""JSON Schema for readers outside of the platform: the schema of a shape, and the values by it.

The schema is of draft 7, which every registry judges, and its objects are closed: a column that is added is then
compatible for readers of the newer schema. A decimal says its digits as Kafka Connect, Flink and ksqlDB read them: with
`multipleOf` validators that compute with doubles would refuse 0.07.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import msgspec

from platform_assets.streaming.formats.json_scalars import CONNECT_DECIMAL, NOT_FINITE
from platform_assets.streaming.formats.shapes import Shape, require_one

_DRAFT = "http://json-schema.org/draft-07/schema#"
_NULL = {"type": "null"}
_TYPES: Mapping[str, Any] = {
    "bool": {"type": "boolean"}, "text": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "date": {"type": "string", "format": "date"}, "timestamp": {"type": "string", "format": "date-time"},
}  # fmt: skip
_INT32 = 2**31
_encode = msgspec.json.Encoder(decimal_format="number").encode
Convert = Callable[[Any], Any]


def write_json_schema(shape: Shape) -> str:
    """The schema of a record's JSON."""
    return json.dumps({"$schema": _DRAFT, **_write(shape)}, ensure_ascii=False)


def open_json_writer(shape: Shape, write_time: Convert | None = None) -> Callable[[Mapping[str, Any]], bytes]:
    """The function from a row to its JSON text. A column that a row does not have is null.

    `write_time` gives the text of a time, or null of null; without it that is as short as RFC 3339 allows.
    """
    names = [member.name for member in shape.members]
    converts = [
        (member.name, act) for member in shape.members if (act := _find_convert(member.shape, write_time)) is not None
    ]

    def write_row(row: Mapping[str, Any]) -> bytes:
        found = {name: row.get(name) for name in names}
        for name, convert in converts:
            found[name] = convert(found[name])
        return _encode(found)

    return write_row


def _write(shape: Shape) -> dict[str, Any]:
    match shape.kind:
        case "union":
            return {"oneOf": [_NULL, *(each for choice in shape.choices for each in _list_options(choice))]}
        case "record":
            return _write_record(shape)
        case "list" if shape.item is not None:
            return {"type": "array", "items": _write(shape.item)}
        case "map" if shape.item is not None:
            return {"type": "object", "additionalProperties": _write(shape.item)}
        case "float":
            return {"oneOf": _list_options(shape)}
        case "decimal" if shape.digits is not None:
            precision, scale = map(str, shape.digits)
            parameters = {"scale": scale, "connect.decimal.precision": precision}
            return {
                "type": "number", "title": CONNECT_DECIMAL, "connect.type": "bytes", "connect.parameters": parameters,
            }  # fmt: skip
        case "int" if shape.bits == 32:
            return {"type": "integer", "minimum": -_INT32, "maximum": _INT32 - 1}
        case "int":
            return {"type": "integer"}
    return dict(_TYPES[shape.kind])


def _list_options(shape: Shape) -> list[dict[str, Any]]:
    """A type, or those of a double: JSON has no numbers for NaN and the infinities, and Protobuf's JSON these texts."""
    if shape.kind == "float":
        return [{"type": "number"}, {"type": "string", "enum": list(NOT_FINITE)}]
    return [_write(shape)]


def _write_record(shape: Shape) -> dict[str, Any]:
    properties = {}
    for member in shape.members:
        schema = _write(member.shape)
        properties[member.name] = {**schema, "description": member.description} if member.description else schema
    required = [member.name for member in shape.members if not member.may_be_absent]
    return {
        "title": shape.name.rpartition(".")[2], "type": "object", "properties": properties,
        **({"required": required} if required else {}), "additionalProperties": False,
    }  # fmt: skip


def _find_convert(shape: Shape, write_time: Convert | None) -> Convert | None:
    """What is done to a value before it is written, where its type may hold a double or a time; None for nothing."""
    one = require_one(shape)
    if one.kind == "timestamp":
        return write_time
    if one.kind == "float":
        return lambda value: value if value is None or isfinite(value) else _name_double(value)
    if one.kind == "record":
        inner = {each.name: act for each in one.members if (act := _find_convert(each.shape, write_time)) is not None}
        if not inner:
            return None
        return lambda value: (
            value and {name: inner[name](each) if name in inner else each for name, each in value.items()}
        )
    if one.item is None or (act := _find_convert(one.item, write_time)) is None:
        return None
    if one.kind == "map":
        return lambda value: value and {key: act(each) for key, each in value.items()}
    return lambda value: value and [act(each) for each in value]


def _name_double(value: float) -> str:
    return NOT_FINITE[0] if value != value else NOT_FINITE[1 + (value < 0)]
