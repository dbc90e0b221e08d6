"""The day's reports as one HTML file, `<root>/_reports/<day>.html`: to send by mail, to print, to keep.

One file without scripts and without anything to load. Made of the tables' rows by delta-rs alone, so it says what the
tables say. Text from the shop's events is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.day_states import FINAL, read_states
from platform_assets.reports.days import DayRange
from platform_assets.reports.presentation import render_value

if TYPE_CHECKING:
    import jinja2
    import pyarrow as pa

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
    page = (
        _environment()
        .get_template("daily_page.html")
        .render(
            day=day,
            is_final=all(state.state == FINAL for state in known),
            states=sorted(known, key=lambda state: state.report),
            written_at=datetime.now(UTC),
            figures=_count(rows.get("gold.session_report")),
            tables=[(section, _largest(rows.get(section.table), section)) for section in _SECTIONS],
        )
    )
    place: str = lakehouse.write_file(f"_reports/{day}.html", page.encode())
    return place


@dataclass(frozen=True)
class _Section:
    """A table of the page: the rows of a report with the largest `measure`."""

    title: str
    table: str
    measure: str
    columns: tuple[str, ...]


_SECTIONS = (
    _Section("Where sessions come from", "gold.session_report", "total_revenue",
             ("device_type", "country", "sessions", "users", "bounce_rate", "conversion_rate", "total_revenue")),
    _Section("Products that views sell", "gold.purchase_correlations", "attributed_revenue",
             ("product_id", "views", "purchases", "view_to_purchase_rate", "p50_lag_seconds", "attributed_revenue")),
    _Section("On which device", "gold.purchase_devices", "attributed_revenue",
             ("product_id", "device_type", "views", "view_to_purchase_rate", "attributed_purchases",
              "attributed_revenue")),
    _Section("Bought together", "gold.product_affinity", "shared_baskets",
             ("product_id", "other_product_id", "shared_baskets", "confidence", "lift")),
)  # fmt: skip


def _count(sessions: pa.Table | None) -> dict[str, Any]:
    import pyarrow.compute as pc

    def total(name: str) -> float:
        return 0 if sessions is None else pc.sum(sessions[name]).as_py() or 0

    count = total("sessions")
    return {
        "sessions": count,
        "revenue": float(total("total_revenue")),
        "conversion": total("converted_sessions") / count if count else None,
        "bounces": total("bounced_sessions") / count if count else None,
    }


def _largest(rows: pa.Table | None, section: _Section) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    if rows is None:
        return []
    if section.table == "gold.product_affinity":  # each pair in one of its two directions
        rows = rows.filter(pc.field("product_id") < pc.field("other_product_id"))
    order = [(section.measure, "descending"), *((name, "ascending") for name in section.columns[:2])]
    found: list[dict[str, Any]] = rows.sort_by(order).slice(0, _ROWS_OF_ONE_TABLE).to_pylist()
    return found


def _read_day(lakehouse: Any, report: DailyReport, day: date) -> pa.Table | None:
    import pyarrow.dataset as ds

    columns = {name for section in _SECTIONS if section.table == report.table.name for name in section.columns}
    if not columns:
        return None
    dataset = lakehouse.delta_table(report.table.name).to_pyarrow_dataset()
    counted = {"converted_sessions", "bounced_sessions"} & {column.name for column in report.table.columns}
    return dataset.to_table(columns=sorted(columns | counted), filter=ds.field(report.day_column) == day)


def _environment() -> jinja2.Environment:
    import jinja2

    def load(name: str) -> str:
        return files(__package__).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["value"] = render_value
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.1%}"
    environment.filters["heading"] = lambda name: name.replace("_", " ")
    return environment
