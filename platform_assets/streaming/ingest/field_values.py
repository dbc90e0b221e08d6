"""Judges the value of a field, as JSON's own types have it, and makes Python's value of it. Strict: nothing is coerced.

A number comes as `Number`, the text in which it was written: no overflow, no loss of digits.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

import msgspec.inspect as inspection

from platform_assets.streaming.ingest.reasons import Breaches, Reason
from platform_assets.streaming.record_types import INT32_MAX, INT64_MAX, Unwrapped, find_choices, unwrap
from platform_assets.streaming.time_spellings import read_moment

# A moment needs a time: a date alone would silently become midnight.
_LONGER_THAN = len("2026-01-31")


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def read_value(found: Unwrapped, value: Any, path: str, breaches: Breaches, unchosen: Reason = Reason.BAD_VALUE) -> Any:
    """The value as the field's type has it; what is wrong with it goes to `breaches`, and the result means nothing.

    `unchosen` is the reason for a value that an enum does not have. Fields that a nested record does not know are left
    out of it.
    """
    inspected = found.inspected
    if value is None:
        if not found.is_nullable:
            breaches.add(Reason.WRONG_TYPE, f"{path} is null")
        return None
    if choices := find_choices(inspected):
        return _read_choice(choices, value, path, breaches, unchosen)
    match inspected:
        case inspection.IntType() | inspection.FloatType():
            return _read_number(inspected, value, path, breaches)
        case inspection.StrType():
            return _read_text(value, path, breaches)
        case inspection.DecimalType():
            return _read_decimal(found.marks["digits"], value, path, breaches)
        case inspection.BoolType():
            if type(value) is not bool:
                return _refuse(breaches, value, path, "a boolean")
            return value
        case inspection.DateTimeType() | inspection.DateType():
            return _read_time(inspected, value, path, breaches)
        case inspection.BytesType():
            return _read_bytes(value, path, breaches)
        case inspection.StructType():
            return _read_record(inspected, value, path, breaches)
        case inspection.DictType():
            if type(value) is not dict:
                return _refuse(breaches, value, path, "an object")
            of = unwrap(inspected.value_type)
            return {_read_text(k, path, breaches): read_value(of, v, f"{path}.{k}", breaches) for k, v in value.items()}
    if type(value) is not list:
        return _refuse(breaches, value, path, "an array")
    of = unwrap(inspected.item_type)  # type: ignore[attr-defined]
    return [read_value(of, item, f"{path}[{place}]", breaches) for place, item in enumerate(value)]


def name_json_type(found: Any) -> str:
    """How JSON calls the type of a value."""
    if isinstance(found, Number):
        return "number"
    return {str: "string", bool: "boolean", dict: "object", list: "array"}.get(type(found), "null")


def _refuse(breaches: Breaches, value: Any, path: str, wanted: str) -> None:
    breaches.add(Reason.WRONG_TYPE, f"{path} is a JSON {name_json_type(value)}, not {wanted}")


def _read_text(value: Any, path: str, breaches: Breaches) -> str:
    if type(value) is not str:
        _refuse(breaches, value, path, "a string")
        return ""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # A lone surrogate is no Unicode text (RFC 7493, 2.1) and no table can hold it.
        breaches.add(Reason.NOT_JSON, str(error))
    return value


def _read_choice(choices: tuple[Any, ...], value: Any, path: str, breaches: Breaches, unchosen: Reason) -> Any:
    if isinstance(choices[0], str):
        found: Any = _read_text(value, path, breaches)
        is_read = type(value) is str
    else:
        found = _read_whole(value, INT64_MAX)
        is_read = found is not None
        if not is_read:
            _refuse(breaches, value, path, "a whole number")
    if is_read and found not in choices:
        breaches.add(unchosen, f"{path} is {found!r}")
    return found


def _read_number(inspected: Any, value: Any, path: str, breaches: Breaches) -> float | int | None:
    if type(value) is not Number:
        _refuse(breaches, value, path, "a number")
        return None
    number: float | int | None
    if isinstance(inspected, inspection.IntType):
        is_short = inspected.le is not None and inspected.le <= INT32_MAX
        number = _read_whole(value, INT32_MAX if is_short else INT64_MAX)
        if number is None:
            breaches.add(Reason.WRONG_TYPE, f"{path} is no {32 if is_short else 64}-bit integer: {value}")
            return None
    else:
        number = float(value)
        if math.isinf(number):
            breaches.add(Reason.WRONG_TYPE, f"{path} is too large for a double: {value}")
            return None
    is_below = (inspected.ge == 0 and number < 0) or (inspected.gt == 0 and number <= 0)
    if is_below:
        breaches.add(Reason.NEGATIVE_AMOUNT, f"{path} is {number}")
    return number


def _read_whole(value: Any, largest: int) -> int | None:
    """Reads a whole number up to the largest; None for any other, which is not computed where it has more digits."""
    digits = value.lstrip("-") if type(value) is Number else ""
    if not digits.isdigit() or len(digits) > len(str(largest)):
        return None
    number = int(value)
    return number if -largest - 1 <= number <= largest else None


def _read_decimal(digits: tuple[int, int], value: Any, path: str, breaches: Breaches) -> Decimal | None:
    """A number, or a text that is one: senders that must not lose digits write amounts as texts."""
    if not isinstance(value, str):
        _refuse(breaches, value, path, "a number")
        return None
    precision, scale = digits
    try:
        with localcontext(prec=precision):
            number = Decimal(value)
            is_held = number.is_finite() and number.quantize(Decimal(1).scaleb(-scale)) == number
    except InvalidOperation:  # no number, or with more digits than the context has
        is_held = False
    if not is_held:
        breaches.add(Reason.WRONG_TYPE, f"{path} is no decimal({precision},{scale}): {value}")
        return None
    return number


def _read_time(inspected: Any, value: Any, path: str, breaches: Breaches) -> date | None:
    if type(value) is not str:
        _refuse(breaches, value, path, "a string")
        return None
    try:
        if isinstance(inspected, inspection.DateType):
            return date.fromisoformat(value)
        if len(value) > _LONGER_THAN:
            return read_moment(value)
    except ValueError:
        pass
    wanted = "date" if isinstance(inspected, inspection.DateType) else "date and time"
    breaches.add(Reason.WRONG_TYPE, f"{path} is not an ISO-8601 {wanted}: {value!r}")
    return None


def _read_bytes(value: Any, path: str, breaches: Breaches) -> bytes | None:
    try:
        return base64.b64decode(_read_text(value, path, breaches), validate=True)
    except (binascii.Error, ValueError):
        breaches.add(Reason.WRONG_TYPE, f"{path} is not base64")
        return None


def _read_record(inspected: inspection.StructType, value: Any, path: str, breaches: Breaches) -> Any:
    if type(value) is not dict:
        return _refuse(breaches, value, path, "an object")
    return read_members(inspected, value, f"{path}.", breaches)


def read_members(
    struct: inspection.StructType, document: Mapping[str, Any], prefix: str, breaches: Breaches
) -> dict[str, Any]:
    """The members of a nested record by their names in JSON; an optional one that is null is as one that is absent."""
    found: dict[str, Any] = {}
    for member in struct.fields:
        of, value = unwrap(member.type), document.get(member.encode_name)
        if value is None and member.required and not (of.is_nullable and member.encode_name in document):
            breaches.add(Reason.MISSING_FIELD, f"{prefix}{member.encode_name} is missing or null")
        elif value is not None or (of.is_nullable and member.encode_name in document):
            found[member.encode_name] = read_value(of, value, f"{prefix}{member.encode_name}", breaches)
    return found
