"""Moments that a contract's type would cut to microseconds, wherever in a field they lie."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec.inspect as inspection

from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.shapes import Shape, union_of
from platform_assets.streaming.record_types import unwrap

_BELOW_MICROS = re.compile(r"[.,]\d{6}\d*[1-9]")
Check = Callable[[Any], None]


def find_check(inspected: inspection.Type, shape: Shape | None, name: str) -> Check | None:
    """What looks through a field's plain value for such moments; None where there can be none.

    `shape` is the value's by its schema; None: any text is taken for a moment where the contract has one. The check
    raises `UndecodableError`, which names the field.
    """
    inspected = unwrap(inspected).inspected
    if isinstance(inspected, inspection.DateTimeType):
        is_cut = shape is None or any(of.kind == "timestamp" and of.unit in (None, "ns") for of in shape.choices)
        return (lambda value: _require_micros(value, name)) if is_cut else None
    if isinstance(inspected, inspection.StructType):
        return _check_members(inspected, shape, name)
    item = getattr(inspected, "value_type", None) or getattr(inspected, "item_type", None)
    if item is None:
        return None
    items = [of.item for of in shape.choices if of.item is not None] if shape is not None else None
    check = None if items == [] else find_check(item, None if items is None else union_of(*items), name)
    return None if check is None else _check_items(check)


def _check_members(struct: inspection.StructType, shape: Shape | None, name: str) -> Check | None:
    checks: dict[str, Check] = {}
    for member in struct.fields:
        found = [] if shape is None else [own.shape for of in shape.choices if (own := of.find(member.encode_name))]
        if shape is not None and not found:
            continue
        own_shape = None if shape is None else union_of(*found)
        if (check := find_check(member.type, own_shape, f"{name}.{member.encode_name}")) is not None:
            checks[member.encode_name] = check

    def check_all(value: Any) -> None:
        for key, check in checks.items() if isinstance(value, dict) else ():
            check(value.get(key))

    return check_all if checks else None


def _check_items(check: Check) -> Check:
    def check_all(value: Any) -> None:
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(each)

    return check_all


def _require_micros(value: Any, name: str) -> None:
    """A reader gives a moment as text that has digits behind the microsecond."""
    if isinstance(value, str) and _BELOW_MICROS.search(value):
        raise UndecodableError(f"{name} has parts of a microsecond, which its column would cut: {value}")
