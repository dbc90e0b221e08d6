"""An Avro schema: its shape, and the schema by which its values are read, with this project's own logical types.

Values are read by the schema that wrote them and by no other: Java's reader takes the logical type of the reader's
schema, and makes 1970 of a time in milliseconds that became one in microseconds. Rules: the Avro specification 1.12.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.shapes import Member, Shape
from platform_assets.streaming.time_spellings import TimeUnit

_PRIMITIVES: Mapping[str, Shape] = {
    "null": Shape("null"), "boolean": Shape("bool"), "int": Shape("int", bits=32), "long": Shape("int"),
    "float": Shape("float", bits=32), "double": Shape("float"), "bytes": Shape("bytes"), "string": Shape("text"),
}  # fmt: skip
_UNITS: Mapping[str, TimeUnit] = {"millis": "ms", "micros": "us", "nanos": "ns"}
# A value of 1 MB may become some hundred million objects otherwise, which no worker has memory for.
_MOST_MEMBERS_A_BYTE = 20
# Python takes seconds for the digits of longer ones, and no column holds more than 38.
_MOST_DIGITS = 1_000
OWN = "headrace-"
"""What the names of this project's logical types begin with: `avro_values` reads them."""
# Ever more of them would take ever more time for each value.
_TRAPS = 8
TRAPS: Sequence[Mapping[str, str]] = ({"type": "null", "logicalType": f"{OWN}no-branch"},) * _TRAPS
"""The end of each union. A branch of a negative number is taken from there: the first of them meet an error."""


@dataclass(frozen=True)
class AvroSchema:
    """What a schema's records are, and how they are read.

    `own` is the schema to read by, and `referenced` are those of its references, in their order; named types have
    names of our own. `enums` are the symbols of each enum.
    """

    shape: Shape
    own: Any
    referenced: tuple[Any, ...]
    enums: frozenset[tuple[str, ...]]


def read_avro_schema(text: str, references: Mapping[str, str]) -> AvroSchema:
    """Reads a schema. `references` by name, each before those that refer to it.

    Raises `SchemaError` for what is no schema of a record, for a type that holds itself, and where nothing bounds the
    memory that a value may take.
    """
    walk = _Walk()
    try:
        referenced = tuple(walk.read(_load(each), "")[1] for each in references.values())
        shape, schema = walk.read(_load(text), "")
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None
    if not shape.choices or any(each.kind != "record" for each in shape.choices):
        raise SchemaError(f"the schema is of {shape.say()}, not of a record")
    return AvroSchema(shape, schema, referenced, frozenset(walk.enums))


def take_logical_types(schema: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Takes this project's logical types off the fields of a record, and gives them by field, with the type's name.

    fastavro calls a function for each value of such a type, by a name that it puts together each time: for a whole
    column it costs a quarter. A fixed type keeps its own, for others may name it; so do types that lie deeper.
    """
    taken: list[tuple[str, str, Mapping[str, Any]]] = []
    for field in schema["fields"] if isinstance(schema, dict) and schema.get("type") == "record" else ():
        nodes = [node for node in _branches(field["type"]) if node != "null"]
        node = nodes[0] if len(nodes) == 1 else None
        if isinstance(node, dict) and node["type"] != "fixed" and "logicalType" in node:
            taken.append((field["name"], f"{node['type']}-{node.pop('logicalType')}", node))
    return taken


def _branches(schema: Any) -> list[Any]:
    """The branches of a union, without the traps; the type itself where it is none."""
    return schema[:-_TRAPS] if isinstance(schema, list) else [schema]


def name_enum(symbols: Sequence[str]) -> str:
    """The logical type of an int that is one of these symbols' numbers. fastavro keeps no other attribute of an int."""
    return f"{OWN}enum:{json.dumps(list(symbols))}"


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None
    except ValueError as error:
        # A schema of one name may come without quotes.
        if text.strip() in _PRIMITIVES:
            return text.strip()
        raise SchemaError(f"the schema is no JSON: {error}") from None


@dataclass(frozen=True)
class _Size:
    """The fewest bytes of a type's values, and how many objects such a value is made of."""

    least_bytes: int
    members: int


class _Walk:
    """Goes through a schema once. Named types are known from where they are defined."""

    def __init__(self) -> None:
        self.enums: set[tuple[str, ...]] = set()
        self._named: dict[str, tuple[Shape, Any] | None] = {}
        self._sizes: dict[str, _Size] = {}

    def read(self, node: Any, namespace: str) -> tuple[Shape, Any]:
        """The shape of a node, and the node to read by."""
        if isinstance(node, list):
            return self._read_union(node, namespace)
        if isinstance(node, str):
            return self._read_name(node, namespace)
        if not isinstance(node, dict) or "type" not in node:
            raise SchemaError(f"{json.dumps(node)[:80]} is no Avro type")
        kind = node["type"]
        if not isinstance(kind, str):
            return self.read(kind, namespace)
        match kind:
            case "record" | "error":
                return self._read_record(node, namespace)
            case "enum":
                return self._read_enum(node, namespace)
            case "fixed":
                return self._read_fixed(node, namespace)
            case "array" | "map":
                return self._read_items(node, kind, namespace)
        if kind not in _PRIMITIVES:
            return self._read_name(kind, namespace)
        return _read_primitive(node, kind)

    def _read_name(self, name: str, namespace: str) -> tuple[Shape, Any]:
        if name in _PRIMITIVES:
            return _read_primitive({}, name)
        for full in (name,) if "." in name or not namespace else (f"{namespace}.{name}", name):
            if full in self._named:
                found = self._named[full]
                if found is None:
                    # The compiled reader goes as deep as a value says, and ends the process where its stack does.
                    raise SchemaError(f"the type {full} holds itself: a value could be nested without end")
                shape, schema = found
                return shape, dict(schema) if isinstance(schema, dict) else schema
        raise SchemaError(f"the type {name} is not defined")

    def _read_union(self, node: list[Any], namespace: str) -> tuple[Shape, Any]:
        if not node:
            raise SchemaError("a union has no branches")
        read = [self.read(branch, namespace) for branch in node]
        # Each use has a node of its own: `take_logical_types` changes that of one field.
        return Shape("union", branches=tuple(shape for shape, _ in read)), [*(schema for _, schema in read), *TRAPS]

    def _read_record(self, node: Mapping[str, Any], namespace: str) -> tuple[Shape, Any]:
        full, inner, own = self._name(node, namespace)
        self._named[full] = None
        fields = node.get("fields")
        if not isinstance(fields, list):
            raise SchemaError(f"the record {full} has no list of fields")
        members, read = [], []
        for field in fields:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
                raise SchemaError(f"a field of the record {full} has no name or no type")
            shape, schema = self.read(field["type"], inner)
            members.append(Member(field["name"], shape, description=str(field.get("doc") or "")))
            read.append({"name": field["name"], "type": schema})
        names = [member.name for member in members]
        if len(set(names)) < len(names):
            raise SchemaError(f"two fields of the record {full} have one name")
        shape = Shape("record", members=tuple(members), name=full)
        sizes = [self._measure(member.shape) for member in members]
        self._sizes[full] = _Size(sum(each.least_bytes for each in sizes), 1 + sum(each.members for each in sizes))
        self._named[full] = shape, own
        return shape, {"type": "record", "name": own, "fields": read}

    def _read_enum(self, node: Mapping[str, Any], namespace: str) -> tuple[Shape, Any]:
        """An enum's value is written as an int is; it is read as one, so that a number that it has not is an error."""
        full, _, _ = self._name(node, namespace)
        symbols = node.get("symbols")
        if not isinstance(symbols, list) or not symbols or not all(isinstance(each, str) for each in symbols):
            raise SchemaError(f"the enum {full} has no symbols")
        schema = {"type": "int", "logicalType": name_enum(symbols)}
        shape = Shape("enum", symbols=tuple(symbols), name=full)
        self.enums.add(shape.symbols)
        self._named[full] = shape, schema
        return shape, dict(schema)

    def _read_fixed(self, node: Mapping[str, Any], namespace: str) -> tuple[Shape, Any]:
        full, _, own = self._name(node, namespace)
        size = node.get("size")
        if type(size) is not int or size < 0:
            raise SchemaError(f"the fixed {full} has no size")
        shape, logical = Shape("bytes", name=full), {}
        if node.get("logicalType") == "duration" and size == 12:
            shape, logical = Shape("duration"), {"logicalType": f"{OWN}duration"}
        elif node.get("logicalType") == "uuid" and size == 16:
            shape, logical = Shape("uuid"), {"logicalType": f"{OWN}uuid"}
        elif (digits := _find_digits(node, size)) is not None:
            shape, logical = Shape("decimal", digits=digits), _decimal(digits)
        self._sizes[full] = _Size(size, 1)
        shape = replace(shape, name=full)
        self._named[full] = shape, own
        return shape, {"type": "fixed", "name": own, "size": size, **logical}

    def _read_items(self, node: Mapping[str, Any], kind: str, namespace: str) -> tuple[Shape, Any]:
        key = "items" if kind == "array" else "values"
        if key not in node:
            raise SchemaError(f"a type {kind} has no {key}")
        item, schema = self.read(node[key], namespace)
        size = self._measure(item)
        least = size.least_bytes + (kind == "map")
        if not least or size.members > _MOST_MEMBERS_A_BYTE * least:
            raise SchemaError(
                f"an item of a type {kind} takes {least} bytes and has {size.members} parts: a short value could hold "
                "any number of them"
            )
        return Shape("list" if kind == "array" else "map", item=item), {"type": kind, key: schema}

    def _name(self, node: Mapping[str, Any], namespace: str) -> tuple[str, str, str]:
        """The full name of a definition, the namespace of what lies in it, and the name that it has here.

        That one is of our own: fastavro looks short names up in other namespaces than the specification does.
        """
        name = node.get("name")
        if not isinstance(name, str) or not name:
            raise SchemaError(f"a type {node['type']} has no name")
        if "." not in name:
            space = node.get("namespace", namespace)
            name = f"{space}.{name}" if space else name
        if name in self._named:
            raise SchemaError(f"the name {name} is defined twice")
        return name, name.rpartition(".")[0], f"{OWN.removesuffix('-')}.t{len(self._named)}"

    def _measure(self, shape: Shape) -> _Size:
        """The fewest bytes that a value takes, and the most parts that it then has."""
        if shape.kind == "union":
            return _Size(1, max(self._measure(branch).members for branch in shape.branches))
        if shape.name in self._sizes:
            return self._sizes[shape.name]
        return _Size(0 if shape.kind == "null" else 1, 1)


def _read_primitive(node: Mapping[str, Any], kind: str) -> tuple[Shape, Any]:
    """A logical type that does not fit its type is none, as the specification has it."""
    plain, logical = _PRIMITIVES[kind], node.get("logicalType")
    if kind in ("float", "double"):
        return plain, {"type": kind, "logicalType": f"{OWN}finite"}
    if kind == "boolean":
        return plain, kind
    if kind == "int" and logical not in ("date", "time-millis"):
        return plain, {"type": kind, "logicalType": f"{OWN}int"}
    if kind == "bytes" and (digits := _find_digits(node, None)) is not None:
        return Shape("decimal", digits=digits), {"type": kind, **_decimal(digits)}
    if not isinstance(logical, str):
        return plain, kind
    if kind == "int" and logical == "date":
        return Shape("date"), {"type": kind, "logicalType": f"{OWN}date"}
    if kind == "string" and logical == "uuid":
        return Shape("uuid"), kind
    family, _, unit = logical.rpartition("-")
    is_time = (kind, logical) in (("int", "time-millis"), ("long", "time-micros"), ("long", "time-nanos"))
    is_moment = kind == "long" and family in ("timestamp", "local-timestamp") and unit in _UNITS
    if not is_time and not is_moment:
        return plain, kind
    own = {"type": kind, "logicalType": f"{OWN}{logical}"}
    name = {"time": "time", "timestamp": "timestamp", "local-timestamp": "local_timestamp"}[family]
    return Shape(name, unit=_UNITS[unit]), own  # type: ignore[arg-type]


def _find_digits(node: Mapping[str, Any], size: int | None) -> tuple[int, int] | None:
    """Precision and scale of a decimal; None where it is none, or none that can be."""
    precision, scale = node.get("precision"), node.get("scale", 0)
    if node.get("logicalType") != "decimal" or type(precision) is not int or type(scale) is not int:
        return None
    most = precision if size is None else math.floor(max(8 * size - 1, 0) * math.log10(2))
    if not 0 < precision <= most or not 0 <= scale <= precision:
        return None
    if precision > _MOST_DIGITS:
        raise SchemaError(f"a decimal of {precision} digits is not read: at most {_MOST_DIGITS}")
    return precision, scale


def _decimal(digits: tuple[int, int]) -> dict[str, Any]:
    return {"logicalType": f"{OWN}decimal", "precision": digits[0], "scale": digits[1]}
