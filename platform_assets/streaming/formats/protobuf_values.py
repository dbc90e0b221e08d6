"""Protobuf messages as plain values: a function for each message type, put together once from its fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from platform_assets.streaming.formats.protobuf_plan import (
    Convert,
    MessagePlan,
    build,
    name_numbers,
    read_enum,
    read_list,
    read_map,
    read_text,
)  # fmt: skip
from platform_assets.streaming.formats.protobuf_size import MemberLimit
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.protobuf_unknown import refuse_unknown
from platform_assets.streaming.formats.protobuf_well_known import find_well_known, read_finite
from platform_assets.streaming.formats.reader import UndecodableError

_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)


class MessageReaders:
    """The functions of all message types of a schema, by name; made when they are asked for. Of any thread."""

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._limit = MemberLimit(types)
        self._readers: dict[str, Callable[[bytes], Any]] = {}
        self._made: dict[str, Convert] = {}
        self._left: list[tuple[Descriptor, MessagePlan]] = []
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
        of, check, has_required = self._types.find_class(name), self._limit.check, self._types.has_required
        parse = of.FromString

        def read(body: bytes) -> Any:
            try:
                message = parse(body)
            except DecodeError:
                raise UndecodableError(f"the bytes are no {name}") from None
            if has_required and not of.IsInitialized(message):
                missing = ", ".join(of.FindInitializationErrors(message)[:3])
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
            plan = self._plan_scalars(descriptor)
            # Types may hold each other: the function is known before those of its fields are.
            self._left.append((descriptor, plan))
            found = build(plan, self._types.find_class(name).HasField)
        self._made[name] = found
        return found

    def _fill(self, descriptor: Descriptor, plan: MessagePlan) -> None:
        for each in descriptor.fields:
            if each.is_repeated:
                plan.repeated.append((each.name, self._plan_repeated(each)))
            elif each.has_presence:
                plan.present.append((each.name, self._plan_item(each)))

    def _plan_repeated(self, each: FieldDescriptor) -> Convert:
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            members = each.message_type.fields_by_name
            return partial(read_map, self._plan_key(members["key"]), self._plan_item(members["value"]))
        read = self._plan_item(each)
        return list if read is None else partial(read_list, read)

    def _plan_item(self, each: FieldDescriptor) -> Convert | None:
        """What one value of a field needs; None where it is plain already."""
        if each.type == FieldDescriptor.TYPE_ENUM:
            return partial(read_enum, name_numbers(each))
        if (check := self._find_check(each)) is not None:
            return check
        return self._find(each.message_type) if each.type in _MESSAGES else None

    def _plan_key(self, key: FieldDescriptor) -> Convert:
        if key.type == FieldDescriptor.TYPE_BOOL:
            return {True: "true", False: "false"}.__getitem__
        return self._find_check(key) or str

    def _find_check(self, each: FieldDescriptor) -> Convert | None:
        """What judges a value that is plain but may be none of JSON's."""
        if each.type in _FLOATS:
            return partial(read_finite, where=each.full_name)
        if each.type == FieldDescriptor.TYPE_STRING and not self._types.checks_texts(each.containing_type):
            return partial(read_text, each.full_name)
        return None

    def _plan_scalars(self, descriptor: Descriptor) -> MessagePlan:
        """The fields that need no other message type: those without presence, whose default is their value."""
        scalars = [each for each in descriptor.fields if not each.is_repeated and not each.has_presence]
        return MessagePlan(
            name=descriptor.full_name,
            known=frozenset(descriptor.fields_by_number),
            plain=tuple(each.name for each in scalars),
            checked=[(each.name, check) for each in scalars if (check := self._find_check(each)) is not None],
            enums=[(each.name, name_numbers(each)) for each in scalars if each.type == FieldDescriptor.TYPE_ENUM],
        )

    def _read_any(self, message: Any) -> dict[str, Any]:
        """A message of a type that its sender names; what is no object, or of an unknown type, is under `value`."""
        refuse_unknown(message)
        found = self._types.find_sent(message.type_url)
        value = message.value if found is None else self.find(found)(message.value)
        members = value if found is not None and isinstance(value, dict) else {"value": value}
        return {"@type": message.type_url, **members}
