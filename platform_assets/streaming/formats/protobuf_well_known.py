"""Values of Google's well-known types and of Confluent's decimal: what they mean instead of how they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from platform_assets.streaming.formats.protobuf_unknown import refuse_unknown
from platform_assets.streaming.formats.reader import UndecodableError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# From the beginning of the year 1 to the end of the year 9999: the type has no other moments.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
# About ten thousand years: the type has no longer durations.
_LONGEST_SECONDS = 315_576_000_000
_NANOS = 1_000_000_000
# Up to this size a double holds every whole number: a larger one may stand for its neighbour.
_EXACT = 2**53
# A decimal of any size would take seconds to be written; columns have 38 digits.
_MOST_DECIMAL_BYTES, _MOST_SCALE = 128, 400

WRAPPERS = ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")


def read_finite(value: float, where: str) -> float:
    """A number of JSON's. Raises `UndecodableError` for NaN and the infinities, naming the field."""
    if not isfinite(value):
        raise UndecodableError(f"{where} is {value}, which is no number in JSON")
    return value


def _read_timestamp(message: Any) -> datetime | str:
    """A moment; one that a datetime does not hold is a text of RFC 3339 with nine digits."""
    seconds, nanos = message.seconds, message.nanos
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND or not 0 <= nanos < _NANOS:
        raise UndecodableError(f"a timestamp has {seconds} seconds and {nanos} nanoseconds, which is no moment")
    moment = _EPOCH + timedelta(0, seconds, nanos // 1000)
    if nanos % 1000 == 0:
        return moment
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}.{nanos:09}Z"


def _read_duration(message: Any) -> str:
    """A duration of ISO 8601 in seconds, with nine digits where it has parts of one: `-PT1.500000000S`."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _LONGEST_SECONDS or abs(nanos) >= _NANOS or seconds * nanos < 0:
        raise UndecodableError(f"a duration has {seconds} seconds and {nanos} nanoseconds, which is none")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}PT{abs(seconds)}{f'.{abs(nanos):09}' if nanos else ''}S"


def _read_decimal(message: Any) -> Decimal:
    """A decimal: a whole number in two's complement, and how many of its digits are behind the point."""
    if len(message.value) > _MOST_DECIMAL_BYTES or abs(message.scale) > _MOST_SCALE:
        raise UndecodableError(f"a decimal has {len(message.value)} bytes and the scale {message.scale}: too many")
    number = int.from_bytes(message.value, "big", signed=True)
    digits = tuple(map(int, str(abs(number))))
    return Decimal((int(number < 0), digits, -message.scale))


def _read_any_number(value: float) -> float | int:
    number = read_finite(value, "a number_value")
    return int(number) if number.is_integer() and abs(number) <= _EXACT and (number or str(number) == "0.0") else number


def _read_struct(message: Any) -> dict[str, Any]:
    for entry in message.fields:
        refuse_unknown(entry)
    return {entry.key: _read_checked_value(entry.value) for entry in message.fields}


def _read_list(message: Any) -> list[Any]:
    return [_read_checked_value(each) for each in message.values]


def _read_value(message: Any) -> Any:
    """Any JSON; a value that says nothing is null."""
    match message.WhichOneof("kind"):
        case "number_value":
            return _read_any_number(message.number_value)
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return _READERS["google.protobuf.Struct"](message.struct_value)
        case "list_value":
            return _READERS["google.protobuf.ListValue"](message.list_value)
    return None


def _checked(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_checked(message: Any) -> Any:
        if len(UnknownFieldSet(message)):
            refuse_unknown(message)
        return read(message)

    return read_checked


def _read_wrapper(message: Any) -> Any:
    return message.value


def _read_float_wrapper(message: Any) -> float:
    return read_finite(message.value, message.DESCRIPTOR.full_name)


_read_checked_value = _checked(_read_value)

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": _checked(_read_timestamp),
    "google.protobuf.Duration": _checked(_read_duration),
    "google.protobuf.Struct": _checked(_read_struct),
    "google.protobuf.Value": _read_checked_value,
    "google.protobuf.ListValue": _checked(_read_list),
    "confluent.type.Decimal": _checked(_read_decimal),
} | {
    f"google.protobuf.{kind}Value": _checked(_read_float_wrapper if kind in ("Double", "Float") else _read_wrapper)
    for kind in WRAPPERS
}


def find_well_known(full_name: str, file_name: str) -> Callable[[Any], Any] | None:
    """The function from a message of such a type to its value; None for other types, which are ordinary messages.

    A type of such a name in a file of another's is an ordinary one: its fields are not known.
    """
    return _READERS.get(full_name) if file_name.startswith(("google/protobuf/", "confluent/")) else None
