"""Which fields are money: numbers that must not lose a digit, written as numbers or as texts."""

from __future__ import annotations

import re

from jobs.operations.new_topic.field_names import split_name
from jobs.operations.new_topic.places import Place

_MONEY = {"amount", "price", "total", "subtotal", "cost", "fee", "fees", "balance", "revenue", "tax", "vat", "fare",
          "tip", "paid", "charge", "discount", "salary", "refund", "gross", "net", "turnover", "deposit"}  # fmt: skip
# With one of these words it is a number of something, or a share, or in the smallest coin.
_NO_MONEY = {"count", "counts", "items", "quantity", "qty", "number", "percent", "pct", "rate", "ratio", "pages",
             "seconds", "ms", "bytes", "id", "currency", "type", "cents", "minor", "pence", "by", "at"}  # fmt: skip
_NUMBER = re.compile(r"-?\d+(?:\.(\d+))?", re.ASCII)
# What most tables of money have, and the widest that each engine has.
_PRECISION, _WIDEST = 18, 38
_LEAST_SCALE, _LARGEST_SCALE = 2, 6


def find_digits(place: Place) -> tuple[int, int] | None:
    """Digits in all and behind the point, where the name says money and each value has at most six behind the point.

    Whole numbers are money too: the next sample may have a point.
    """
    name = place.path[-1] if place.path[-1] != "[]" else place.path[-2]
    if not is_money(name) or not place.json_types.keys() <= {"string", "number"}:
        return None
    matches = [_NUMBER.fullmatch(value) for value in place.values]
    scale, whole = _LEAST_SCALE, 1
    for match in matches:
        if match is None or len(match[1] or "") > _LARGEST_SCALE:
            return None
        scale = max(scale, len(match[1] or ""))
        whole = max(whole, len(match[0].lstrip("-").split(".")[0]))
    precision = _PRECISION if whole + scale <= _PRECISION else _WIDEST
    return (precision, scale) if whole + scale <= precision else None


def is_money(name: str) -> bool:
    """Whether a name is that of an amount of money."""
    words = set(split_name(name))
    return bool(words & _MONEY) and not words & _NO_MONEY
