"""Protobuf messages as plain values: a function for each message type, put together once from its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from operator import attrgetter
from threading import RLock
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from platform_assets.streaming.formats.protobuf_size import MemberLimit
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.protobuf_unknown import read_unknown, refuse_unknown
from platform_assets.streaming.formats.protobuf_well_known import find_well_known, read_finite
from platform_assets.streaming.formats.reader import UndecodableError

Convert: TypeAlias = Callable[[Any], Any]

_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)


@dataclass
class _Plan:
    """How a message type's fields are read. `plain` are without presence and need no change; `floats` are checked.

    `enums` have the names of the numbers. `present` are given where they are set; `repeated` read a whole list or map.
    """

    name: str
    known: frozenset[int]
    plain: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    enums: list[tuple[str, Mapping[int, Any]]] = field(default_factory=list)
    present: list[tuple[str, Convert | None]] = field(default_factory=list)
    repeated: list[tuple[str, Convert]] = field(default_factory=list)


class MessageReaders:
    """The functions of all message types of a schema, by name; made when they are asked for. Of any thread."""

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._limit = MemberLimit(types)
        self._readers: dict[str, Callable[[bytes], Any]] = {}
        self._made: dict[str, Convert] = {}
        self._left: list[tuple[Descriptor, _Plan]] = []
        self._lock = RLock()

    def find(self, descriptor: Descriptor) -> Callable[[bytes], Any]:
        """The function from a message's bytes to its plain value.

        It raises `UndecodableError` for bytes that are no such message, and `UnicodeDecodeError` and `RecursionError`.
        """
        # A function may be used only when all that it calls are complete: another thread waits for the lock.
        with self._lock:
            if (known := self._readers.get(descriptor.full_name)) is None:
                convert = self._find(descriptor)
                while self._left:
                    self._fill(*self._left.pop())
                known = self._readers[descriptor.full_name] = self._build_reader(descriptor.full_name, convert)
        return known

    def _build_reader(self, name: str, convert: Convert) -> Callable[[bytes], Any]:
        parse, check, has_required = self._types.find_parser(name), self._limit.check, self._types.has_required

        def read(body: bytes) -> Any:
            try:
                message = parse(body)
            except DecodeError:
                raise UndecodableError(f"the bytes are no {name}") from None
            if has_required and not message.IsInitialized():
                missing = ", ".join(message.FindInitializationErrors()[:3])
                raise UndecodableError(f"required fields of {name} are missing: {missing}")
            check(message, body)
            return convert(message)

        return read

    def _find(self, descriptor: Descriptor) -> Convert:
        name = descriptor.full_name
        if (made := self._made.get(name)) is not None:
            return made
        if (known := find_well_known(name, descriptor.file.name)) is not None:
            found = known
        elif name == "google.protobuf.Any" and descriptor.file.name.startswith("google/protobuf/"):
            found = self._read_any
        else:
            plan = _plan_scalars(descriptor)
            # Types may hold each other: the function is known before those of its fields are.
            self._left.append((descriptor, plan))
            found = _build(plan)
        self._made[name] = found
        return found

    def _fill(self, descriptor: Descriptor, plan: _Plan) -> None:
        for each in descriptor.fields:
            if each.is_repeated:
                plan.repeated.append((each.name, self._plan_repeated(each)))
            elif each.has_presence:
                plan.present.append((each.name, self._plan_item(each)))

    def _plan_repeated(self, each: FieldDescriptor) -> Convert:
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            members = each.message_type.fields_by_name
            return partial(_read_map, _write_key(members["key"]), self._plan_item(members["value"]))
        read = self._plan_item(each)
        return list if read is None else partial(_read_list, read)

    def _plan_item(self, each: FieldDescriptor) -> Convert | None:
        """What one value of a field needs; None where it is plain already."""
        if each.type in _FLOATS:
            return partial(read_finite, where=each.full_name)
        if each.type == FieldDescriptor.TYPE_ENUM:
            return partial(_read_enum, name_numbers(each))
        return self._find(each.message_type) if each.type in _MESSAGES else None

    def _read_any(self, message: Any) -> dict[str, Any]:
        """A message of a type that its sender names; what is no object, or of an unknown type, is under `value`."""
        refuse_unknown(message)
        found = self._types.find_sent(message.type_url)
        value = message.value if found is None else self.find(found)(message.value)
        members = value if found is not None and isinstance(value, dict) else {"value": value}
        return {"@type": message.type_url, **members}


def name_numbers(each: FieldDescriptor) -> Mapping[int, Any]:
    """The names of an enum's numbers, the first of several; null for the number that means it."""
    if each.enum_type.full_name == "google.protobuf.NullValue":
        return {0: None}
    return {value.number: value.name for value in reversed(each.enum_type.values)}


def _plan_scalars(descriptor: Descriptor) -> _Plan:
    """The fields that need no other message type: those without presence, whose default is their value."""
    scalars = [each for each in descriptor.fields if not each.is_repeated and not each.has_presence]
    return _Plan(
        name=descriptor.full_name,
        known=frozenset(descriptor.fields_by_number),
        plain=tuple(each.name for each in scalars),
        floats=tuple(each.name for each in scalars if each.type in _FLOATS),
        enums=[(each.name, name_numbers(each)) for each in scalars if each.type == FieldDescriptor.TYPE_ENUM],
    )


def _build(plan: _Plan) -> Convert:
    """The function of one message type. It runs for each record: what does not change is bound once."""
    names, floats, enums, present, repeated = plan.plain, plan.floats, plan.enums, plan.present, plan.repeated
    name_of, known = plan.name, plan.known
    # Reads all plain fields in one call; for less than two it would not give a tuple.
    get = attrgetter(*names) if len(names) > 1 else lambda message: tuple(getattr(message, each) for each in names)

    def convert(message: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(zip(names, get(message), strict=False))
        for name in floats:
            if not isfinite(found[name]):
                read_finite(found[name], f"{name_of}.{name}")
        for name, symbols in enums:
            found[name] = symbols.get(found[name], found[name])
        has = message.HasField
        for name, read in present:
            if has(name):
                value = getattr(message, name)
                found[name] = value if read is None else read(value)
        for name, read_all in repeated:
            found[name] = read_all(getattr(message, name))
        unknown = UnknownFieldSet(message)
        if len(unknown):
            found |= read_unknown(unknown, known, name_of)
        return found

    return convert


def _read_enum(symbols: Mapping[int, Any], number: int) -> Any:
    return symbols.get(number, number)


def _read_list(read: Convert, values: Iterable[Any]) -> list[Any]:
    return [read(each) for each in values]


def _read_map(write_key: Convert, read: Convert | None, entries: Iterable[Any]) -> dict[str, Any]:
    """The last of several entries with one key counts, as in all runtimes."""
    found = {}
    for entry in entries:
        if len(UnknownFieldSet(entry)):
            refuse_unknown(entry)
        found[write_key(entry.key)] = entry.value if read is None else read(entry.value)
    return found


def _write_key(key: FieldDescriptor) -> Convert:
    if key.type == FieldDescriptor.TYPE_BOOL:
        return {True: "true", False: "false"}.__getitem__
    return str
