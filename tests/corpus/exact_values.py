"""Plain values as JSON with exact types, and a comparison by which a value equals another of its own type only."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

_TAGS: dict[str, Any] = {
    "$decimal": Decimal, "$bytes": bytes.fromhex, "$moment": datetime.fromisoformat, "$date": date.fromisoformat,
}  # fmt: skip


def to_json(value: Any) -> Any:
    """What `json` writes of a plain value; doubles keep their bits, as Python writes the shortest text of each."""
    match value:
        case Decimal():
            return {"$decimal": str(value)}
        case bytes():
            return {"$bytes": value.hex()}
        case datetime():
            return {"$moment": value.isoformat()}
        case date():
            return {"$date": value.isoformat()}
        case dict():
            return {key: to_json(each) for key, each in value.items()}
        case list():
            return [to_json(each) for each in value]
    return value


def from_json(value: Any) -> Any:
    """The plain value of what `to_json` gave."""
    if isinstance(value, dict):
        [tag, *more] = [*value] or [""]
        if tag in _TAGS and not more:
            return _TAGS[tag](value[tag])
        return {key: from_json(each) for key, each in value.items()}
    return [from_json(each) for each in value] if isinstance(value, list) else value


def find_difference(found: Any, meant: Any, place: str = "value") -> str | None:
    """Says where two plain values differ: in type, in a double's sign, in a decimal's digits; None for equals."""
    if isinstance(meant, dict) and isinstance(found, dict):
        if found.keys() != meant.keys():
            return f"{place} has {sorted(found)}, not {sorted(meant)}"
        said = (find_difference(found[key], meant[key], f"{place}.{key}") for key in meant)
        return next(filter(None, said), None)
    if isinstance(meant, list) and isinstance(found, list):
        if len(found) != len(meant):
            return f"{place} has {len(found)} items, not {len(meant)}"
        said = (find_difference(*both, f"{place}[{at}]") for at, both in enumerate(zip(found, meant, strict=True)))
        return next(filter(None, said), None)
    # `repr` tells 0.0 from -0.0, 1 from 1.0 and True, 12.30 from 12.3, and a zone from none.
    is_same = type(found) is type(meant) and repr(found) == repr(meant)
    return None if is_same else f"{place} is {found!r}, not {meant!r}"
