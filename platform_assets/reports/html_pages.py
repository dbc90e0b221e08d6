"""Templates of the pages that are written next to the tables: text from records is escaped, a missing name refused."""

from __future__ import annotations

from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from platform_assets.reports.presentation import render_value

if TYPE_CHECKING:
    import jinja2


def load_template(package: str, name: str) -> jinja2.Template:
    """A template that lies next to the code of this package, with the filters `value`, `percent` and `heading`."""
    import jinja2

    def load(name: str) -> str:
        return files(package).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["value"] = _render
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.1%}"
    environment.filters["heading"] = lambda name: name.removesuffix("_by_currency").replace("_", " ")
    return environment.get_template(name)


def _render(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{amount:,.2f} {code}".strip() for code, amount in value.items()) or "0.00"
    return render_value(value)
