"""How the fields of a Protobuf message become members of a plain value; one function a message type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

from platform_assets.streaming.formats.protobuf_unknown import read_unknown, refuse_unknown
from platform_assets.streaming.formats.reader import UndecodableError

Convert: TypeAlias = Callable[[Any], Any]


@dataclass
class MessagePlan:
    """How a message type's fields are read.

    `plain` are those without presence; of these, `checked` are judged, and `enums` have the names of their numbers.
    `present` are given where they are set; `repeated` read a whole list or map.
    """

    name: str
    known: frozenset[int]
    plain: tuple[str, ...] = ()
    checked: list[tuple[str, Convert]] = field(default_factory=list)
    enums: list[tuple[str, Mapping[int, Any]]] = field(default_factory=list)
    present: list[tuple[str, Convert | None]] = field(default_factory=list)
    repeated: list[tuple[str, Convert]] = field(default_factory=list)


def name_numbers(each: FieldDescriptor) -> Mapping[int, Any]:
    """The names of an enum's numbers, the first of several; null for the number that means it."""
    if each.enum_type.full_name == "google.protobuf.NullValue":
        return {0: None}
    return {value.number: value.name for value in reversed(each.enum_type.values)}


def build(plan: MessagePlan, has: Callable[[Any, str], bool]) -> Convert:
    """The function of one message type. It runs for each record: what does not change is bound once."""
    names, checked, enums, present, repeated = plan.plain, plan.checked, plan.enums, plan.present, plan.repeated
    name_of, known = plan.name, plan.known
    # Reads all plain fields in one call; for less than two it would not give a tuple.
    get = attrgetter(*names) if len(names) > 1 else lambda message: tuple(getattr(message, each) for each in names)

    def convert(message: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(zip(names, get(message), strict=False))
        for name, check in checked:
            check(found[name])
        for name, symbols in enums:
            found[name] = symbols.get(found[name], found[name])
        for name, read in present:
            if has(message, name):
                value = getattr(message, name)
                found[name] = value if read is None else read(value)
        for name, read_all in repeated:
            found[name] = read_all(getattr(message, name))
        unknown = UnknownFieldSet(message)
        if len(unknown):
            found |= read_unknown(unknown, known, name_of)
        return found

    return convert


def read_enum(symbols: Mapping[int, Any], number: int) -> Any:
    """The name of an enum's number; the number where the enum has none."""
    return symbols.get(number, number)


def read_list(read: Convert, values: Iterable[Any]) -> list[Any]:
    """The plain values of a list."""
    return [read(each) for each in values]


def read_map(write_key: Convert, read: Convert | None, entries: Iterable[Any]) -> dict[str, Any]:
    """The plain value of a map, out of its entries; the last of several with one key counts, as in all runtimes."""
    found = {}
    for entry in entries:
        if len(UnknownFieldSet(entry)):
            refuse_unknown(entry)
        found[write_key(entry.key)] = entry.value if read is None else read(entry.value)
    return found


def read_text(where: str, value: Any) -> str:
    """A text. Raises `UndecodableError` for the bytes that the runtime gives where a text is not UTF-8."""
    if not isinstance(value, str):
        raise UndecodableError(f"{where} is not UTF-8")
    return value
