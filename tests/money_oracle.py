"""What purchases come to, by currency, in plain Python: the oracle of streams and reports."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

_CENT = Decimal("0.01")


class Money(NamedTuple):
    """Amounts as the columns of a table with one row for amounts of any currency."""

    total: float | None
    currency: str | None
    by_currency: str
    without_amount: int


def cents_of(revenue: float | None) -> Decimal | None:
    """An event's amount; None where it is not known."""
    cents = None if revenue is None else Decimal(repr(revenue)).quantize(_CENT, ROUND_HALF_UP)
    return None if cents is None or cents >= Decimal(10) ** 16 else cents


def add_up(purchases: Iterable[Mapping[str, Any]]) -> Money:
    """The money of these purchases, one after the other."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    unknown = 0
    for purchase in purchases:
        cents = cents_of(purchase["revenue"])
        if cents is None:
            unknown += 1
        else:
            sums[purchase.get("currency") or ""] += cents
    sold = {code: cents for code, cents in sorted(sums.items()) if cents}
    text = json.dumps({code: str(cents) for code, cents in sold.items()}, separators=(",", ":"))
    if len(sold) == 1:
        ((code, cents),) = sold.items()
        return Money(float(cents), code or None, text, unknown)
    return Money(None if sold or unknown else 0.0, None, text, unknown)
