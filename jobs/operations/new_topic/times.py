"""Recognises how a field spells moments: as ISO 8601, in a format of `strptime`, or as a number since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec

from platform_assets.streaming.ingest.field_values import Number
from platform_assets.streaming.time_spellings import TimeUnit

# A number is taken for a moment only within these: no number lies there in two units.
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2035, 1, 1, tzinfo=UTC).timestamp()
_UNITS: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_LONGEST = 40
SYSLOG_FORMAT = "%b %d %H:%M:%S"
"""The time of RFC 3164, which has no year."""
FORMATS = (
    "%d/%b/%Y:%H:%M:%S %z", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z",
    "%a %b %d %H:%M:%S %Y", "%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S %Z", SYSLOG_FORMAT,
)  # fmt: skip
WORDS = {"time", "timestamp", "ts", "at", "date", "datetime", "when", "created", "occurred", "epoch", "millis",
         "updated", "modified", "started", "ended", "expires", "received", "sent"}  # fmt: skip
"""Words in the names of fields that hold moments: a number without one of them is a number."""


@dataclass(frozen=True)
class FoundTime:
    """How a field's values say a moment: one of `unit` and `format`, or neither for ISO 8601."""

    unit: TimeUnit | None = None
    format: str | None = None
    is_plain: bool = True
    """Whether msgspec reads each of them as a `datetime`."""
    is_fraction: bool = False
    """Whether some of the numbers have a point."""


def find_text_time(texts: Sequence[str]) -> FoundTime | None:
    """How all these texts say moments; None where they do not, or two formats are possible (day and month)."""
    if not texts or any(not 8 <= len(text) <= _LONGEST for text in texts):
        return None
    if all(_is_iso(text) for text in texts):
        return FoundTime(is_plain=all(_is_plain(text) for text in texts))
    fitting = [each for each in FORMATS if _fits(texts, each)]
    return FoundTime(format=fitting[0], is_plain=False) if len(fitting) == 1 else None


def is_recent(text: str, found: FoundTime) -> bool:
    """Whether a text that says a moment says one from 2000 on; one without a year does."""
    if found.format is None:
        return text >= "2000"
    return found.format == SYSLOG_FORMAT or datetime.strptime(text, found.format).year >= 2000  # noqa: DTZ007 the year


def find_number_time(numbers: Sequence[Number]) -> FoundTime | None:
    """Finds the unit in which all these numbers count from 1970; None where they are no moments from 2000 on."""
    least, most = min(map(float, numbers)), max(map(float, numbers))
    for unit, factor in _UNITS.items():
        if least >= _FIRST * factor and most < _LAST * factor:
            return FoundTime(unit=unit, is_fraction=not all(each.isdigit() for each in numbers))
    return None


def is_date(text: str) -> bool:
    """Whether the text is a day in the usual spelling, such as 2026-01-31."""
    try:
        return len(text) == 10 and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_iso(text: str) -> bool:
    try:
        return len(text) > 10 and text[:4].isdigit() and ":" in text and datetime.fromisoformat(text).year >= 1
    except ValueError:
        return False


def _is_plain(text: str) -> bool:
    try:
        msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return False
    return True


def _fits(texts: Sequence[str], wanted: str) -> bool:
    try:
        for text in texts:
            # A leap day has to be one, whatever the year.
            datetime.strptime(f"2024 {text}" if wanted == SYSLOG_FORMAT else text,  # noqa: DTZ007 nothing is kept
                              f"%Y {wanted}" if wanted == SYSLOG_FORMAT else wanted)  # fmt: skip
    except ValueError:
        return False
    return True
