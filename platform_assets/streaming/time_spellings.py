"""How a field may say a moment: a unit since 1970, or a format of `datetime.strptime`. What is neither is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

_UTC_NAMES = re.compile(r"\b(?:UTC|GMT)\b", re.IGNORECASE)
TimeUnit = Literal["s", "ms", "us", "ns"]
NANOS_PER_UNIT: Mapping[TimeUnit, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
# A format is tried with it: no part of it is one that a format may leave out.
_MOMENT = datetime(2026, 10, 31, 23, 58, 59, tzinfo=UTC)


def read_spelled(text: str, spelled: str) -> datetime:
    """The moment that a text says in a format; without a zone where the text has none.

    Raises `ValueError` for another text, and for the name of a zone that is neither UTC nor GMT: such names are of
    several zones, and `datetime.strptime` forgets them all.
    """
    moment = datetime.strptime(text, spelled)  # noqa: DTZ007 one without an offset gets its zone where it is read
    if moment.tzinfo is None and "%Z" in spelled:
        if _UTC_NAMES.search(text) is None:
            raise ValueError(f"{text!r} names another zone than UTC")
        return moment.replace(tzinfo=UTC)
    return moment


def read_moment(text: str) -> datetime:
    """The moment of an ISO-8601 text, as a decoder of msgspec reads it where it does; else as Python does.

    Digits behind the microsecond are rounded by the one and cut by the other: a record must not get another moment when
    one of its fields has it judged field by field. Raises `ValueError` for another text.
    """
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return datetime.fromisoformat(text)


def find_unit_fault(unit: object) -> str:
    """What is wrong with a unit; nothing for one that there is."""
    return "" if unit in get_args(TimeUnit) else f"there is no unit {unit!r}: it is one of s, ms, us, ns"


def find_format_fault(text: str) -> str:
    """What is wrong with a format; nothing for one that reads what it writes."""
    try:
        datetime.strptime(_MOMENT.strftime(text), text)  # noqa: DTZ007 only whether it is read
    except ValueError as error:
        return f"{text!r} is no format of datetime.strptime: {error}"
    return ""
