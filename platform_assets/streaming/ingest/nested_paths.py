"""Makes records of a topic's plain values. Fields that lie deeper than the record's own level are lifted out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_type_hints

import msgspec

from platform_assets.streaming.record_types import RecordField


def build_decoder(record: type[msgspec.Struct], fields: Sequence[RecordField]) -> Callable[[bytes], Any]:
    """A function from JSON to the record. It raises what msgspec raises, also for a field that nobody knows."""
    return _build(record, fields, lambda of: msgspec.json.Decoder(of).decode)


def build_converter(record: type[msgspec.Struct], fields: Sequence[RecordField]) -> Callable[[Any], Any]:
    """The same from a dict of Python's own types, which is the value's JSON form."""
    return _build(record, fields, lambda of: partial(msgspec.convert, type=of))


def _build(
    record: type[msgspec.Struct], fields: Sequence[RecordField], read_as: Callable[[Any], Callable[[Any], Any]]
) -> Callable[[Any], Any]:
    if all(len(each.path) == 1 for each in fields):
        return read_as(record)
    decode = read_as(_build_level(record, [(each, each.path) for each in fields], record.__name__))
    names = [(each.name, each.path) for each in fields]

    def decode_and_lift(value: Any) -> Any:
        decoded = decode(value)
        lifted = {name: _find(decoded, path) for name, path in names}
        return record(**{name: found for name, found in lifted.items() if found is not msgspec.UNSET})

    return decode_and_lift


def _build_level(record: type[msgspec.Struct], fields: Sequence[tuple[RecordField, Any]], name: str) -> Any:
    """A record with one field a key: of the field that lies there, or of those that lie below it."""
    hints = get_type_hints(record, include_extras=True)
    members: list[Any] = []
    names: dict[str, str] = {}
    for number, key in enumerate(dict.fromkeys(path[0] for _, path in fields)):
        below = [(each, path[1:]) for each, path in fields if path[0] == key]
        each, rest = below[0]
        if not rest:
            of_type: Any = hints[each.name] if each.is_required else hints[each.name] | msgspec.UnsetType
        else:
            of_type = _build_level(record, below, f"{name}_{number}")
            if not any(each.is_required for each, _ in below):
                of_type = of_type | None | msgspec.UnsetType
        is_required = any(each.is_required for each, _ in below)
        default = msgspec.field(name=key) if is_required else msgspec.field(name=key, default=msgspec.UNSET)
        names[key] = f"at_{number}"  # keys need not be identifiers
        members.append((names[key], of_type, default))
    return msgspec.defstruct(
        name, members, forbid_unknown_fields=True, gc=False, kw_only=True, namespace={"by_key": names}
    )


def _find(decoded: Any, path: Sequence[str]) -> Any:
    for key in path:
        if decoded is None or decoded is msgspec.UNSET:
            return msgspec.UNSET
        decoded = getattr(decoded, type(decoded).by_key[key])
    return decoded
