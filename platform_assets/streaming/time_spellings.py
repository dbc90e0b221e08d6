"""How a field may say a moment: a unit since 1970, or a format of `datetime.strptime`. What is neither is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, get_args

TimeUnit = Literal["s", "ms", "us", "ns"]
# A format is tried with it: no part of it is one that a format may leave out.
_MOMENT = datetime(2026, 10, 31, 23, 58, 59, tzinfo=UTC)


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
