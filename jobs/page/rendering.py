"""Turns values into HTML: all text from records is escaped, all times are UTC, and a missing name is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from jobs.page.charts import draw_bar, draw_sparkline
from jobs.page.panel import Panel

_UNKNOWN = "–"


@cache
def _environment() -> jinja2.Environment:
    def load(name: str) -> str:
        return files(__package__).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "count": format_count, "money": format_money, "moment": format_moment, "minute": format_minute,
        "clock": format_clock, "percent": format_percent, "text": format_text, "name": format_name, "rate": format_rate,
    }  # fmt: skip
    environment.globals |= {"sparkline": draw_sparkline, "bar": draw_bar}
    return environment


def render_panel(panel: Panel, values: Mapping[str, Any]) -> str:
    """The inner HTML of a panel's section."""
    return _environment().get_template(f"panels/{panel.name}.html").render(values)


def render_page(**values: Any) -> str:
    """The whole page."""
    return _environment().get_template("page.html").render(values)


def format_count(value: int | None) -> str:
    """A whole number with thousands set apart."""
    return _UNKNOWN if value is None else f"{value:,}"


def format_rate(value: float | None) -> str:
    """A number a second: with a digit behind the point where it is small."""
    return _UNKNOWN if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def format_percent(value: float | None) -> str:
    """A share as percent."""
    return _UNKNOWN if value is None else f"{value:.1%}"


def format_money(amounts: Mapping[str | None, Any]) -> Markup:
    """Amounts by currency, each with its unit. Where the shop sends none at all, they stand without."""
    shown = [
        Markup('<span class="money">{}{}</span>').format(
            _UNKNOWN if amount is None else f"{amount:,.2f}",
            Markup("")
            if list(amounts) == [None]
            else Markup(' <span class="unit">{}</span>').format(currency or "no currency"),
        )
        for currency, amount in amounts.items()
    ]
    return Markup(" ").join(shown) if shown else Markup('<span class="money">0.00</span>')


def format_moment(moment: datetime | None, now: datetime) -> Markup:
    """A time of today, with seconds; of another day with its date."""
    return _format(moment, "%H:%M:%S", now)


def format_minute(moment: datetime | None, now: datetime) -> Markup:
    """A time of today, with minutes; of another day with its date."""
    return _format(moment, "%H:%M", now)


def format_clock(moment: datetime | None, now: datetime) -> Markup:
    """A time as `format_moment` has it, in a column whose heading says that it is UTC."""
    return _format(moment, "%H:%M:%S", now, unit="")


def _format(moment: datetime | None, form: str, now: datetime, unit: str = " UTC") -> Markup:
    if moment is None:
        return Markup(_UNKNOWN)
    moment = moment.astimezone(UTC)
    form = form if moment.date() == now.date() else f"%Y-%m-%d {form}"
    return Markup('<time datetime="{}">{}{}</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime(form), unit
    )


def format_text(value: Any) -> Markup:
    """Text that anybody may have sent: on a line of its own direction, without what would hide or move other text."""
    if value is None:
        return Markup(_UNKNOWN)
    return Markup("<bdi>{}</bdi>").format(_make_plain(value))


def format_name(value: str) -> Markup:
    """The name of a stream, a table or a check, which may be broken at its underscores."""
    return Markup("<bdi>{}</bdi>").format(Markup("_<wbr>").join(map(escape, _make_plain(value).split("_"))))


def _make_plain(value: Any) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)[:200])
