"""Avro for readers outside of the platform: the schema of a shape, and the values by it, written by fastavro."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from platform_assets.streaming.formats.shapes import Shape
from platform_assets.streaming.formats.written_names import FreeNames, require_name

_TYPES: Mapping[str, Any] = {
    "null": "null", "bool": "boolean", "float": "double", "text": "string", "bytes": "bytes",
    "date": {"type": "int", "logicalType": "date"},
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
}  # fmt: skip


def write_avro_schema(shape: Shape) -> str:
    """The schema of a record. Raises `SchemaError` for a name that Avro does not have."""
    return json.dumps(_Walk().write(shape), ensure_ascii=False)


def open_avro_writer(text: str) -> Callable[[Mapping[str, Any]], bytes]:
    """The function from a row to the bytes of a value. A column that a row does not have is null."""
    import fastavro

    parsed, write = fastavro.parse_schema(json.loads(text)), fastavro.schemaless_writer

    def write_row(row: Mapping[str, Any]) -> bytes:
        out = io.BytesIO()
        write(out, parsed, row)
        return out.getvalue()

    return write_row


class _Walk:
    """Goes through a shape once: a record type is defined where it is met first, and named where it is met again."""

    def __init__(self) -> None:
        self._names = FreeNames()
        self._defined: dict[Shape, str] = {}

    def write(self, shape: Shape) -> Any:
        match shape.kind:
            case "union":
                return [self.write(branch) for branch in shape.branches]
            case "record":
                return self._write_record(shape)
            case "list" | "map" if shape.item is not None:
                kind, key = ("array", "items") if shape.kind == "list" else ("map", "values")
                return {"type": kind, key: self.write(shape.item)}
            case "decimal" if shape.digits is not None:
                precision, scale = shape.digits
                return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
            case "int":
                return "int" if shape.bits == 32 else "long"
        return _TYPES[shape.kind]

    def _write_record(self, shape: Shape) -> Any:
        if shape in self._defined:
            return self._defined[shape]
        namespace, _, name = shape.name.rpartition(".")
        name = self._names.take(require_name(name, "Avro"))
        # A record in a record is in the namespace of the outer one.
        self._defined[shape] = name
        fields = []
        for member in shape.members:
            field = {"name": require_name(member.name, "Avro"), "type": self.write(member.shape)}
            if member.description:
                field["doc"] = member.description
            if member.shape.is_nullable:
                field["default"] = None
            fields.append(field)
        return {"type": "record", "name": name, **({"namespace": namespace} if namespace else {}), "fields": fields}
