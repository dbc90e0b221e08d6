"""Panel `funnel`: how many of those who looked filled a cart, and how many bought, in the last five minutes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.streams.conversion_funnel import CONVERSION_FUNNEL

_WINDOWS = Kept(
    name="funnel",
    table=CONVERSION_FUNNEL,
    time_column="window_start",
    find_since=lambda newest: newest - timedelta(hours=1),
    sql="""
        SELECT window_start AS moment, window_end, unique_visitors, cart_users, purchasers FROM file_rows
        WHERE window_start >= $since""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The newest window that is over, by the table's own time; before there is one, the newest."""
    # A window that has begun lacks what is still to come, and would show fewer visitors than there are.
    windows = given.ask(
        "SELECT * FROM funnel WHERE moment <= $now ORDER BY window_end <= $newest DESC, moment DESC LIMIT 1",
        now=given.now, newest=given.newest["funnel"],
    )  # fmt: skip
    if not windows:
        return {"window": None}
    [window] = windows
    visitors = window["unique_visitors"]
    steps = [
        ("Visitors", visitors), ("Filled a cart", window["cart_users"]), ("Bought", window["purchasers"])
    ]  # fmt: skip
    return {
        "now": given.now,
        "window": window,
        "steps": [(name, users, users / visitors if visitors else None) for name, users in steps],
    }


PANEL = Panel(name="funnel", title="Funnel", order=30, build=build, kept=(_WINDOWS,))
