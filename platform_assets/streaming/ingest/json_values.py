"""JSON of a record: read without losing a digit, looked into by path, and what of it no field takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import msgspec.inspect as inspection

from platform_assets.streaming.ingest.field_values import Number, name_json_type
from platform_assets.streaming.ingest.reasons import Breaches, Reason, RejectedRecordError
from platform_assets.streaming.record_types import RecordField, unwrap

_NUMBERS = ("int", "float", "decimal")
# A number as RFC 8259 writes it.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""The members of a JSON object, each as it was written. Raises what msgspec raises."""


def parse_json(value: bytes) -> Any:
    """RFC 8259 in UTF-8; numbers as `Number`. Raises `RejectedRecordError` (not_json), whatever the bytes."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        # Strict UTF-8 first: json.loads would guess UTF-16 and UTF-32 from bytes.
        document = json.loads(value.decode(), parse_constant=refuse, parse_int=Number, parse_float=Number)
        if isinstance(document, dict):
            decode_members(value)
    except RecursionError:
        raise RejectedRecordError(Reason.NOT_JSON, "nested too deeply to be read") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise RejectedRecordError(Reason.NOT_JSON, str(error) or "not JSON") from None
    return document


def read_text(kind: str, text: str) -> Any:
    """A text as JSON would have it for a field of this kind; what is none stays a text, which is a wrong type."""
    if kind in _NUMBERS:
        return Number(text) if _NUMBER.fullmatch(text) else text
    if kind == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def find_at(document: Mapping[str, Any], path: Sequence[str], breaches: Breaches) -> Any:
    """What lies under these keys; None where one of them is not there. What is no object on the way is a breach."""
    found: Any = document
    for depth, key in enumerate(path):
        if found is None:
            return None
        if not isinstance(found, Mapping):
            place = ".".join(path[:depth])
            breaches.add(Reason.WRONG_TYPE, f"{place} is a JSON {name_json_type(found)}, not an object")
            return None
        found = found.get(key)
    return found


def is_at(document: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether something lies under these keys, be it null."""
    for key in path[:-1]:
        inside = document.get(key)
        if not isinstance(inside, Mapping):
            return False
        document = inside
    return path[-1] in document


def write_member(name: str, raw: msgspec.Raw) -> str:
    """A member of `unknown_fields`, its value to the letter."""
    return f"{json.dumps(name)}:{bytes(raw).decode()}"


def list_unknown(
    value: bytes, document: Mapping[str, Any], found_values: Mapping[str, Any], fields: Sequence[RecordField]
) -> str | None:
    """JSON of what no field takes, None for nothing: by name, or by place (`items[0].colour`) where it is nested.

    What stands at the top is kept to the letter. `found_values` are those of `fields`, by name, where there is one.
    """
    known = {each.path[0] for each in fields}
    found = [write_member(name, raw) for name, raw in decode_members(value).items() if name not in known]
    if any(each.kind in ("record", "list", "map") or len(each.path) > 1 for each in fields):
        nested = dict(_list_off_paths(document, [each.path for each in fields], ""))
        for each in fields:
            nested |= _list_nested(each.inspected, found_values.get(each.name), ".".join(each.path))
        found += [f"{json.dumps(place)}:{write_json(item)}" for place, item in nested.items()]
    return f"{{{','.join(found)}}}" if found else None


def _list_off_paths(document: Any, paths: Sequence[Sequence[str]], prefix: str) -> Iterator[tuple[str, Any]]:
    """What lies in an object into which paths lead, and is on none of them; the top itself is left out."""
    for key in {path[0] for path in paths if len(path) > 1}:
        inside = document.get(key)
        rests = [path[1:] for path in paths if path[0] == key]
        if isinstance(inside, dict):
            taken = {rest[0] for rest in rests}
            yield from ((f"{prefix}{key}.{name}", item) for name, item in inside.items() if name not in taken)
            yield from _list_off_paths(inside, rests, f"{prefix}{key}.")


def _list_nested(inspected: inspection.Type, value: Any, place: str) -> dict[str, Any]:
    """What nested records do not know, by place."""
    found: dict[str, Any] = {}
    if isinstance(inspected, inspection.StructType) and isinstance(value, dict):
        members = {member.encode_name: unwrap(member.type).inspected for member in inspected.fields}
        for name, item in value.items():
            at = f"{place}.{name}"
            found |= _list_nested(members[name], item, at) if name in members else {at: item}
    elif isinstance(inspected, inspection.DictType) and isinstance(value, dict):
        for name, item in value.items():
            found |= _list_nested(unwrap(inspected.value_type).inspected, item, f"{place}.{name}")
    elif isinstance(value, list) and hasattr(inspected, "item_type"):
        for number, item in enumerate(value):
            found |= _list_nested(unwrap(inspected.item_type).inspected, item, f"{place}[{number}]")
    return found


def write_json(value: Any) -> str:
    """JSON, with each `Number` as it was written."""
    if isinstance(value, Number):
        return str.__str__(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(name)}:{write_json(item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(write_json, value))}]"
    return json.dumps(value)
