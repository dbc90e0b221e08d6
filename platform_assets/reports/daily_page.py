"""The day's reports as one HTML file, `<root>/_reports/<day>.html`: to send by mail, to print, to keep.

One file without scripts and without anything to load. Made of the tables' rows by delta-rs alone, so it says what the
tables say. Text from records is escaped. Each topic that is reported on has its tables in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg

from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.day_states import FINAL, read_states
from platform_assets.reports.days import DayRange
from platform_assets.reports.html_pages import load_template

DAILY_PAGE_KEY = dg.AssetKey(["reports", "daily_page"])

# What fits on two printed pages. The tables have the rest.
_ROWS_OF_ONE_TABLE = 15


def write_daily_page(lakehouse: Any, reports: Sequence[DailyReport], day: date) -> str | None:
    """Writes the page of one day and returns where; None when no report has been computed for it.

    The file is replaced as a whole: a reader sees the page as it was or as it is.
    """
    days = DayRange(day, day)
    states = {report.table.name: read_states(lakehouse, report.table.name, days) for report in reports}
    known = [state for found in states.values() for state in found]
    if not known:
        return None
    rows = {report.table.name: _read_day(lakehouse, report, day) for report in reports if states[report.table.name]}
    page = load_template(__package__, "daily_page.html").render(
        day=day,
        is_final=all(state.state == FINAL for state in known),
        states=sorted(known, key=lambda state: state.report),
        written_at=datetime.now(UTC),
        figures=_count(rows.get("gold.session_report", [])) if "gold.session_report" in states else None,
        tables=[
            (section, _largest(rows.get(section.table, []), section))
            for section in _SECTIONS
            if section.table in states
        ],
    )
    place: str = lakehouse.folder.write_file(f"_reports/{day}.html", page.encode())
    return place


@dataclass(frozen=True)
class _Section:
    """A table of the page: the rows of a report with the largest `measure`, a count or money by currency."""

    title: str
    table: str
    measure: str
    columns: tuple[str, ...]


_SECTIONS = (
    _Section("Where sessions come from", "gold.session_report", "revenue_by_currency",
             ("device_type", "country", "sessions", "users", "bounce_rate", "conversion_rate", "revenue_by_currency")),
    _Section("Products that views sell", "gold.purchase_correlations", "attributed_revenue_by_currency",
             ("product_id", "views", "purchases", "view_to_purchase_rate", "p50_lag_seconds",
              "attributed_revenue_by_currency")),
    _Section("On which device", "gold.purchase_devices", "attributed_revenue_by_currency",
             ("product_id", "device_type", "views", "view_to_purchase_rate", "attributed_purchases",
              "attributed_revenue_by_currency")),
    _Section("Bought together", "gold.product_affinity", "shared_baskets",
             ("product_id", "other_product_id", "shared_baskets", "confidence", "lift")),
    # By payments, for the rows are of several currencies.
    _Section("What cards paid", "gold.merchant_category_report", "payments",
             ("merchant_category", "currency", "payments", "cards", "total_amount", "avg_amount", "refunds",
              "refunded_amount")),
    _Section("What was wrong with sensors", "gold.telemetry_anomalies", "readings",
             ("place", "kind", "rule", "severity", "words", "readings")),
    _Section("Patients with the highest scores", "gold.early_warning_scores", "score",
             ("place", "hour_start", "score", "risk", "known_signs")),
    _Section("Who attacked", "gold.network_threats", "events",
             ("network", "rule", "events", "first_at", "last_at", "logged_in_at", "words")),
    _Section("Bytes to expect on the next day", "gold.bandwidth_forecast", "expected_bytes",
             ("host", "hour", "expected_bytes", "mean_error_bytes", "naive_error_bytes", "mean_bytes")),
)  # fmt: skip


# Money by currency, and the one sum that a row of older code has instead.
_MONEY = {"revenue_by_currency": "total_revenue", "attributed_revenue_by_currency": "attributed_revenue"}

_Money = dict[str, Decimal]


def _count(sessions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def total(name: str) -> int:
        return sum(row[name] or 0 for row in sessions)

    revenue: _Money = {}
    for row in sessions:
        for currency, amount in row["revenue_by_currency"].items():
            revenue[currency] = revenue.get(currency, Decimal(0)) + amount
    count = total("sessions")
    return {
        "sessions": count,
        "revenue": dict(sorted(revenue.items())),
        "without_amount": total("purchases_without_amount"),
        "conversion": total("converted_sessions") / count if count else None,
        "bounces": total("bounced_sessions") / count if count else None,
    }


def _largest(rows: Sequence[dict[str, Any]], section: _Section) -> list[dict[str, Any]]:
    """The rows that are shown, with the length of their `bar` in percent. Of money the commonest currency counts."""
    if section.table == "gold.product_affinity":  # each pair in one of its two directions
        rows = [row for row in rows if row["product_id"] < row["other_product_id"]]
    used = Counter(code for row in rows if section.measure in _MONEY for code in row[section.measure])
    commonest = min(used, key=lambda code: (-used[code], code), default="")

    def measure(row: dict[str, Any]) -> float:
        value = row[section.measure]
        return float(value.get(commonest, 0) if isinstance(value, dict) else value or 0)

    names = section.columns[:2]
    found = sorted(rows, key=lambda row: (-measure(row), *(str(row[name]) for name in names)))[:_ROWS_OF_ONE_TABLE]
    longest = (measure(found[0]) if found else 0) or 1
    return [{**row, "bar": 100 * measure(row) / longest} for row in found]


def _read_day(lakehouse: Any, report: DailyReport, day: date) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds

    columns = {name for section in _SECTIONS if section.table == report.table.name for name in section.columns}
    if not columns:
        return []
    dataset = lakehouse.delta_table(report.table.name).to_pyarrow_dataset()
    money = {name: total for name, total in _MONEY.items() if name in columns}
    counted = {"converted_sessions", "bounced_sessions", "purchases_without_amount"}
    columns |= {*money.values(), *counted} & {column.name for column in report.table.columns}
    known = sorted(columns & set(dataset.schema.names))
    found = dataset.to_table(columns=known, filter=ds.field(report.day_column) == day).to_pylist()
    rows = [dict.fromkeys(columns) | row for row in found]
    for row in rows:
        row |= {name: _read_money(row[name], row[total]) for name, total in money.items()}
    return rows


def _read_money(by_currency: str | None, total: float | None) -> _Money:
    if by_currency is None:
        return {"": Decimal(repr(total))} if total else {}
    return {code: Decimal(amount) for code, amount in json.loads(by_currency).items()}
