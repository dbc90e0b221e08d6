"""A recorded time, in whatever notation, as microseconds since 1970; what could mean two things is refused."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from jobs.simulator.row_values import RowError
from platform_assets.errors import UsageError

# How many of each are a second.
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
TIME_FORMATS = ("auto", "iso", *_UNITS, "date")

# By default a number is seconds, milli-, micro- or nanoseconds when that makes it a moment of these years. They end
# (in June 2032) where digits could be a calendar time that begins with its year: 2021013112 as seconds would silently
# become 2034, and 20210131 as seconds became 1970.
_FIRST_SECOND, _UNCLEAR_SECOND = 946_684_800, 1_970_000_000
# The last second that a datetime can hold.
_LAST_SECOND = 253_402_300_799

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?|\d{8}T\d{4}(\d\d([.,]\d+)?)?)([+-]\d\d(:?\d\d)?)?", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{8}", re.ASCII)
# Two directives without anything between them: strptime then guesses where a number ends ("2021111").
_JOINED_DIRECTIVES = re.compile(r"%[a-zA-Z]%[a-zA-Z]")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMAT_ADVICE = (
    f"Say how times are written: set time_format (--time-format) to {', '.join(TIME_FORMATS[1:])}, or a pattern such "
    "as %Y%m%d%H%M%S."
)
_DATE_ADVICE = "For its first moment in UTC set time_format (--time-format) to date."


def check_time_format(time_format: str) -> None:
    """Raises `UsageError` for a format that is neither a known name nor a strptime pattern that says which day."""
    if time_format in TIME_FORMATS:
        return
    probe = datetime(2021, 1, 31, 13, 45, 59, tzinfo=UTC)
    try:
        says_day = _parse(probe.strftime(time_format), time_format).date() == probe.date()
    except ValueError:
        says_day = False
    if not says_day:
        raise UsageError(
            f"time_format is {time_format!r}. Give {', '.join(TIME_FORMATS)}, or a pattern of strptime with year, "
            "month and day, such as %d/%m/%Y %H:%M:%S."
        )


def microseconds(value: Any, time_format: str = "auto") -> int:
    """A recorded time in microseconds since 1970. Without a zone it is UTC. Raises `RowError` with the value's text.

    Datetimes are taken as they are. For any other value `time_format` says how it is written: `iso` with a time of day
    (a blank may stand for the T, " UTC" for the Z), a number of `seconds`, `milliseconds`, `microseconds` or
    `nanoseconds` since 1970, a `date` (its first moment in UTC), or a pattern of strptime. `auto` takes ISO, and
    numbers that are a moment between 2000 and June 2032 in one of the units; no number can be so in two.
    """
    if isinstance(value, datetime):
        return _since_1970(value)
    if isinstance(value, date):
        value = value.isoformat()
    text = _text(value)
    if time_format in _UNITS:
        return _number(value, text, time_format)
    if time_format == "date":
        return _date(value, text)
    if "%" in time_format:
        return _by_pattern(value, text, time_format)
    if time_format == "auto" and _NUMBER.fullmatch(text):
        return _clear_number(value, text)
    return _iso(value, text)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise RowError(f"timestamp is {value!r}, not a time")
    # Data frames turn whole numbers into floats where a column has gaps: 20210131.0 is 20210131.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _number(value: Any, text: str, unit: str) -> int:
    number, scale = _decimal(text), _UNITS[unit]
    if number is None or not _FIRST_SECOND * scale <= number <= _LAST_SECOND * scale:
        raise RowError(f"timestamp is {value!r}, not {unit} since 1970 of a time from 2000 on")
    return int(number * 1_000_000 / scale)


def _clear_number(value: Any, text: str) -> int:
    number = _decimal(text)
    for unit, scale in _UNITS.items():
        if number is not None and _FIRST_SECOND * scale <= number < _UNCLEAR_SECOND * scale:
            return _number(value, text, unit)
    raise RowError(f"timestamp is {value!r}, digits that are no clear time between 2000 and 2032. {_FORMAT_ADVICE}")


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return None


def _date(value: Any, text: str) -> int:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return _since_1970(datetime.fromisoformat(text))
    except ValueError:
        raise RowError(f"timestamp is {value!r}, not a date (YYYY-MM-DD or YYYYMMDD)") from None


def _parse(text: str, pattern: str) -> datetime:
    return datetime.strptime(text, pattern)  # noqa: DTZ007 - a pattern may have no zone: then it is UTC


def _by_pattern(value: Any, text: str, pattern: str) -> int:
    try:
        moment = _parse(text, pattern)
    except ValueError:
        raise RowError(f"timestamp is {value!r}, not of the form {pattern!r}") from None
    if _JOINED_DIRECTIVES.search(pattern):
        shortest = len(moment.strftime(pattern.replace("%f", "")))
        fraction = len(text) - shortest
        if fraction not in (range(1, 7) if "%f" in pattern else (0,)):
            raise RowError(f"timestamp is {value!r}, which has more or fewer digits than {pattern!r}")
    return _since_1970(moment)


def _iso(value: Any, text: str) -> int:
    shape = text.removesuffix(" UTC").removesuffix("Z")
    try:
        if _ISO.fullmatch(shape):
            return _since_1970(datetime.fromisoformat(shape))
        datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise RowError(f"timestamp is {value!r}, not a time") from None
    if _DATE.fullmatch(text):
        raise RowError(f"timestamp is {value!r}, a day without a time of day. {_DATE_ADVICE}")
    raise RowError(f"timestamp is {value!r}, not a date and a time of day. {_FORMAT_ADVICE}")


def _since_1970(moment: datetime) -> int:
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def iso(at: int) -> str:
    """Microseconds since 1970 as the contract writes a time. Raises `OverflowError` beyond the year 9999."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
