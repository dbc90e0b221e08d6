"""The fields of a record as columns: which type of Delta's holds which type of Python's. No engine is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec
import msgspec.inspect as inspection

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.time_spellings import find_format_fault, find_unit_fault

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

Kind = Literal["text", "int", "float", "bool", "decimal", "datetime", "date", "bytes", "enum", "list", "map", "record"]
Inspected: TypeAlias = inspection.Type
# Spark writes no Delta table with a member of another name, so that a replay would fail.
_MEMBER = re.compile(r"\w+")

_KINDS: Mapping[type[Inspected], tuple[Kind, str]] = {
    inspection.StrType: ("text", "string"),
    inspection.IntType: ("int", "bigint"),
    inspection.FloatType: ("float", "double"),
    inspection.BoolType: ("bool", "boolean"),
    inspection.DateTimeType: ("datetime", "timestamp"),
    inspection.DateType: ("date", "date"),
    inspection.BytesType: ("bytes", "binary"),
}
_LISTS = (
    inspection.ListType, inspection.SetType, inspection.FrozenSetType, inspection.VarTupleType,
)  # fmt: skip


@dataclass(frozen=True)
class RecordField:
    """A field of a topic's record, and its column.

    `path` are the keys under which its value lies in a JSON object. `column_type` is a Spark SQL type. `marks` are what
    `digits`, `epoch` and `time_format` (`topic_spec`) say. `as_text`: a whole number that is kept as text.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    column_type: str
    description: str
    is_required: bool
    is_nullable: bool
    inspected: Inspected = field(repr=False, compare=False)
    marks: Mapping[str, Any] = field(repr=False, compare=False)
    as_text: bool = False

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of an enum, none for other kinds."""
        return find_choices(self.inspected)


@dataclass(frozen=True)
class Unwrapped:
    """A type without what stands around it: `| None`, a description, extra marks."""

    inspected: Inspected
    is_nullable: bool
    description: str
    marks: Mapping[str, Any]


def read_fields(record: type[msgspec.Struct], as_text: frozenset[str] = frozenset()) -> tuple[RecordField, ...]:
    """The fields of a record in their order. Those named in `as_text` are kept as text if they are whole numbers.

    Raises `TopicSpecError`, about the field, for a type that no column of Delta's holds.
    """
    try:
        struct = inspection.type_info(record)
    except (TypeError, NameError) as error:
        raise TopicSpecError(f"The record {record.__name__} cannot be read: {error}.", field=record.__name__) from None
    if not isinstance(struct, inspection.StructType):
        raise TopicSpecError("The record must be a class derived from Record.", argument="record")
    _require_known_fields(struct, record.__name__)
    found = [_read_field(each, as_text) for each in struct.fields]
    for each in found:
        if each.name.startswith("_"):
            raise TopicSpecError(f"{each.name}: names that begin with _ are the engine's.", field=each.name)
    lower = [each.name.lower() for each in found]
    for name in {name for name in lower if lower.count(name) > 1}:
        raise TopicSpecError(f"Two fields are called {name}: Delta does not tell capitals from others.", field=name)
    paths = [each.path for each in found]
    for each in found:
        if any(each.path != path and path[: len(each.path)] == each.path for path in paths):
            raise TopicSpecError(f"{each.name} lies at a place in which another field lies.", field=each.name)
    return tuple(found)


def unwrap(inspected: Inspected) -> Unwrapped:
    """Takes a type out of its `| None`, its description and its marks."""
    marks: dict[str, Any] = {}
    description, is_nullable = "", False
    while isinstance(inspected, inspection.Metadata | inspection.UnionType):
        if isinstance(inspected, inspection.Metadata):
            marks |= inspected.extra or {}
            description = description or (inspected.extra_json_schema or {}).get("description", "")
            inspected = inspected.type
            continue
        others = [each for each in inspected.types if not isinstance(each, inspection.NoneType)]
        is_nullable = is_nullable or len(others) < len(inspected.types)
        if len(others) != 1:
            break
        [inspected] = others
    return Unwrapped(inspected, is_nullable, description, marks)


def find_choices(inspected: Inspected) -> tuple[Any, ...]:
    """The values of an enum or of a `Literal`, none for other types."""
    if isinstance(inspected, inspection.EnumType):
        return tuple(member.value for member in inspected.cls)
    return tuple(inspected.values) if isinstance(inspected, inspection.LiteralType) else ()


def _read_field(each: inspection.Field, as_text: frozenset[str]) -> RecordField:
    found = unwrap(each.type)
    kind, column_type = _name_type(found.inspected, found.marks, each.name)
    text = each.name in as_text and kind == "int"
    if "epoch" in found.marks or "time_format" in found.marks:
        _check_time_marks(each.name, kind, found.marks)
        column_type = "timestamp"
    return RecordField(
        name=each.name,
        path=tuple(each.encode_name.split(".")),
        kind=kind,
        column_type="string" if text else column_type,
        description=found.description,
        is_required=each.required,
        is_nullable=found.is_nullable,
        inspected=found.inspected,
        marks=found.marks,
        as_text=text,
    )


def _check_time_marks(name: str, kind: Kind, marks: Mapping[str, Any]) -> None:
    wanted = "int" if "epoch" in marks else "text"
    if kind != wanted:
        raise TopicSpecError(f"{name} has the mark of a time, which is for {wanted}.", field=name)
    fault = find_unit_fault(marks["epoch"]) if "epoch" in marks else find_format_fault(marks["time_format"])
    if fault:
        raise TopicSpecError(f"{name}: {fault}.", field=name)


def _name_type(
    inspected: Inspected, marks: Mapping[str, Any], name: str, within: tuple[type, ...] = ()
) -> tuple[Kind, str]:
    """The kind of a type and its column. Raises `TopicSpecError`, about the field `name`.

    `within` are the records that the type lies in.
    """
    if isinstance(inspected, inspection.IntType):
        return "int", "int" if inspected.le is not None and inspected.le <= INT32_MAX else "bigint"
    if (known := _KINDS.get(type(inspected))) is not None:
        return known
    if isinstance(inspected, inspection.DecimalType):
        if "digits" not in marks:
            raise TopicSpecError(f"{name}: say how many digits, as in Annotated[Decimal, digits(18, 2)].", field=name)
        precision, scale = marks["digits"]
        if not 0 < precision <= 38 or not 0 <= scale <= precision:
            raise TopicSpecError(f"{name}: digits are 1 to 38, of which up to all are behind the point.", field=name)
        return "decimal", f"decimal({precision},{scale})"
    if choices := find_choices(inspected):
        if all(isinstance(each, str) for each in choices):
            return "enum", "string"
        if all(isinstance(each, int) and abs(each) <= INT64_MAX for each in choices):
            return "enum", "bigint"
        raise TopicSpecError(f"{name}: the values of an enum are all texts or all whole numbers.", field=name)
    if isinstance(inspected, _LISTS):
        return "list", f"array<{_name_item(inspected.item_type, name, within)}>"
    if isinstance(inspected, inspection.DictType) and isinstance(inspected.key_type, inspection.StrType):
        return "map", f"map<string,{_name_item(inspected.value_type, name, within)}>"
    if isinstance(inspected, inspection.StructType):
        return "record", _name_record(inspected, name, within)
    said = type(inspected).__name__.removesuffix("Type").lower()
    raise TopicSpecError(f"{name}: no column holds the type {said}. docs/adding-a-topic.md has a list.", field=name)


def _name_record(struct: inspection.StructType, name: str, within: tuple[type, ...]) -> str:
    _require_known_fields(struct, name)
    if struct.cls in within:
        raise TopicSpecError(f"{name}: {struct.cls.__name__} holds itself, and a column has an end.", field=name)
    keys = [each.encode_name for each in struct.fields]
    if not keys:
        raise TopicSpecError(f"{name}: {struct.cls.__name__} has no fields. Leave it out.", field=name)
    for key in keys:
        if not _MEMBER.fullmatch(key):
            said = f"{name}: no column has a member called {key!r}: letters, digits and _ only. Leave it out."
            raise TopicSpecError(said, field=name)
        if [each.lower() for each in keys].count(key.lower()) > 1:
            said = f"{name}: two members are called {key}: Delta does not tell capitals from others."
            raise TopicSpecError(said, field=name)
    inner = (*within, struct.cls)
    members = [f"{each.encode_name}:{_name_item(each.type, each.encode_name, inner)}" for each in struct.fields]
    return f"struct<{','.join(members)}>"


def _name_item(inspected: Inspected, name: str, within: tuple[type, ...]) -> str:
    found = unwrap(inspected)
    if "epoch" in found.marks or "time_format" in found.marks:
        raise TopicSpecError(f"{name}: the mark of a time is for a field of the record itself.", field=name)
    return _name_type(found.inspected, found.marks, name, within)[1]


def _require_known_fields(struct: inspection.StructType, name: str) -> None:
    if not struct.forbid_unknown_fields or struct.array_like or struct.tag is not None:
        raise TopicSpecError(
            f"{name}: derive its record from Record, without array_like and tag, so that no unknown field is lost.",
            field=name,
        )
