"""Panel `revenue`: what the shop has taken today, in the last hour and in the last minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.revenue_by_category import REVENUE_BY_CATEGORY, WINDOW

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
# A shop that sells in fifty currencies has a report for that: the page shows those with the most purchases.
_MOST_CURRENCIES = 3


def _find_since(newest: datetime) -> datetime:
    return min(newest.replace(hour=0, minute=0, second=0, microsecond=0), newest - _HOUR - _MINUTE)


# Each purchase is in two windows, for they slide: those that follow each other have it once.
_MINUTES = Kept(
    name="revenue",
    table=REVENUE_BY_CATEGORY,
    time_column="window_start",
    find_since=_find_since,
    sql=f"""
        SELECT window_start AS moment, currency, sum(TRY_CAST(total_revenue AS DECIMAL(18, 2))) AS amount,
               CAST(sum(purchase_count) AS BIGINT) AS purchases,
               CAST(sum(coalesce(purchases_without_amount, 0)) AS BIGINT) AS without_amount
        FROM file_rows
        WHERE window_start >= $since AND epoch_us(window_start) % {WINDOW // timedelta(microseconds=1)} = 0
        GROUP BY ALL""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The sums by currency, and the last hour's minutes of the currency with the most purchases."""
    newest = given.newest["revenue"]
    if newest is None:
        return {"is_empty": True}
    rows = given.ask(
        """SELECT moment, currency, CAST(sum(amount) AS DECIMAL(38, 2)) AS amount,
                  CAST(sum(purchases) AS BIGINT) AS purchases, CAST(sum(without_amount) AS BIGINT) AS without_amount
           FROM revenue WHERE moment <= $now GROUP BY ALL""",
        now=given.now,
    )
    # The newest minute that has begun may still get purchases: the last one is that before it.
    end = newest.replace(second=0, microsecond=0)
    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    today = [row for row in rows if row["moment"] >= midnight]
    hour = [row for row in rows if end - _HOUR <= row["moment"] < end]
    currencies = _rank_currencies(today or rows)
    shown = currencies[:_MOST_CURRENCIES]
    minutes = {row["moment"]: row["amount"] or Decimal(0) for row in hour if shown and row["currency"] == shown[0]}
    line = [(at, minutes.get(at, Decimal(0))) for at in (end - _HOUR + _MINUTE * number for number in range(60))]
    return {
        "is_empty": False,
        "now": given.now,
        "is_today": midnight.date() == given.now.date(),
        "day": midnight.date(),
        "until": end,
        "today": _add_up(today, shown),
        "hour": _add_up(hour, shown),
        "minute": _add_up([row for row in hour if row["moment"] == end - _MINUTE], shown),
        "purchases": sum(row["purchases"] for row in today),
        "without_amount": sum(row["without_amount"] for row in today),
        "other_currencies": len(currencies) - len(shown),
        "currency": shown[0] if shown else None,
        "line": [float(amount) for _, amount in line],
        "words": _describe(line, shown[0] if shown else None),
    }


def _rank_currencies(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    purchases: defaultdict[str | None, int] = defaultdict(int)
    for row in rows:
        purchases[row["currency"]] += row["purchases"]
    return sorted(purchases, key=lambda currency: (-purchases[currency], currency or ""))


def _add_up(rows: Sequence[Mapping[str, Any]], currencies: Sequence[str | None]) -> dict[str | None, Decimal]:
    sums = dict.fromkeys(currencies, Decimal(0))
    for row in rows:
        if row["currency"] in sums and row["amount"] is not None:
            sums[row["currency"]] += row["amount"]
    return sums


def _describe(line: Sequence[tuple[datetime, Decimal]], currency: str | None) -> str:
    unit = currency or "no currency"
    at, most = max(line, key=lambda point: (point[1], point[0]))
    return (
        f"Revenue of each minute from {line[0][0]:%H:%M} to {line[-1][0]:%H:%M} UTC: at most {most:,.2f} {unit} at "
        f"{at:%H:%M}, in the last minute {line[-1][1]:,.2f} {unit}."
    )


PANEL = Panel(name="revenue", title="Revenue", order=20, build=build, kept=(_MINUTES,), is_wide=True)
