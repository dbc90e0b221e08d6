"""Fields of a message that its type does not have: kept by number, as a newer writer may have sent them."""

from __future__ import annotations

from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from platform_assets.streaming.formats.reader import UndecodableError

_GROUP_WIRE_TYPE = 3


def read_unknown(unknown: Any, known: frozenset[int], name: str) -> dict[str, list[Any]]:
    """The fields of a set as members called `#` and their number, each a list in the order of the bytes.

    Numbers are given as they stand in the bytes, without a sign; texts, messages and packed lists as bytes, and groups
    as objects: what they are, only a schema that has them can say. `known` are the numbers that the type `name` has.
    Raises `UndecodableError` for one of them: it is here because its wire type is another type's.
    """
    for each in unknown:
        if each.field_number in known:
            raise UndecodableError(f"the field {each.field_number} of {name} has a wire type of another type")
    return _list_values(unknown)


def _list_values(unknown: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for each in unknown:
        value = _list_values(each.data) if each.wire_type == _GROUP_WIRE_TYPE else each.data
        found.setdefault(f"#{each.field_number}", []).append(value)
    return found


def refuse_unknown(message: Any) -> None:
    """Raises `UndecodableError` where a message that has no members in JSON has fields that its type does not know."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        name = message.DESCRIPTOR.full_name
        raise UndecodableError(f"a {name} has the field {unknown[0].field_number}, which has no place there")
