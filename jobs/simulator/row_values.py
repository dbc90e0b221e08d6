"""Single values of a recorded row, brought to the types of the contract."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

# What JSON and CSV files write. Python reads more: 1_000, and digits of any script.
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class RowError(Exception):
    """A row that cannot become a record; the message says which field and why. Never leaves `jobs.simulator`."""


def is_missing(value: Any) -> bool:
    """Whether the value says that there is none."""
    # NaN is how data frames write "no value" into a column of floats.
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def as_text(name: str, value: Any) -> str | None:
    """The value as text; None when it is missing. Raises `RowError` for what is neither text nor number."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RowError(f"{name} is a {type(value).__name__}, not a text or a number")
    # pandas and Parquet turn whole-number ids with gaps into floats: 4711.0 is customer 4711.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def as_number(name: str, value: Any) -> float | None:
    """The value, or its text, as a finite number; None when it is missing. Raises `RowError`."""
    if is_missing(value):
        return None
    try:
        if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise RowError(f"{name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise RowError(f"{name} is {value!r}, not a finite number")
    return number


def as_whole_number(name: str, value: Any) -> int | None:
    """The value, or its text, as a whole number; None when it is missing. Raises `RowError`."""
    number = as_number(name, value)
    if number is None:
        return None
    if not number.is_integer():
        raise RowError(f"{name} is {value!r}, not a whole number")
    return int(number)
