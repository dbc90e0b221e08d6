"""Pictures for the reports' metadata: small PNGs as Markdown images, stored with the materialization."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_COLOR = "#2f6f9f"
TEXT_COLOR = "#333333"

# Stored in Dagster's event log with every materialization, hourly and for ever: about 14 kB a picture at this size.
_SIZE_INCHES = (7.0, 2.6)
_DPI = 100


def draw_sessions_by_hour(counts: Sequence[int], days: str) -> str:
    """A Markdown image: bars of sessions by UTC hour of their start (`counts`: 24 numbers)."""
    figure, axes = new_figure(f"Sessions by hour of their start, {days}")
    axes.bar(range(24), counts, color=BAR_COLOR, width=0.85)
    axes.set_xlim(-0.6, 23.6)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02}:00" for hour in range(0, 24, 3)])
    axes.set_xlabel("hour of the day (UTC)")
    axes.set_ylabel("sessions")
    _mark_empty(axes, counts, "No sessions")
    return as_markdown(figure, "Sessions by hour")


def draw_lag_distribution(counts: Sequence[int], days: str) -> str:
    """A Markdown image: bars of view-purchase pairs by minutes of their lag (`counts`: 30 numbers)."""
    figure, axes = new_figure(f"Time from view to purchase, {days}")
    axes.bar([minute + 0.5 for minute in range(30)], counts, color=BAR_COLOR, width=0.9)
    axes.set_xlim(0, 30)
    axes.set_xticks(range(0, 31, 5))
    axes.set_xlabel("minutes from view to purchase")
    axes.set_ylabel("pairs")
    _mark_empty(axes, counts, "No purchase followed a view within 30 minutes")
    return as_markdown(figure, "Lag distribution")


def new_figure(title: str) -> tuple[Figure, Axes]:
    """An empty picture in the house's manner."""
    # Not pyplot: its global state keeps figures alive and is not safe with other threads of the run.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    # Fixed margins, wide enough for millions: a layout that fits itself draws each picture twice, and a backfill of a
    # quarter draws hundreds.
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
    axes = figure.add_axes((0.14, 0.19, 0.84, 0.68))
    axes.set_title(title, fontsize=10, color=TEXT_COLOR, loc="left")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(labelsize=8, colors=TEXT_COLOR)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _mark_empty(axes: Axes, counts: Sequence[int], text: str) -> None:
    if any(counts):
        return
    axes.set_ylim(0, 1)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=TEXT_COLOR, fontsize=10)


def as_markdown(figure: Figure, alternative_text: str) -> str:
    """The picture as a Markdown image, all of it in the text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return f"![{alternative_text}](data:image/png;base64,{base64.b64encode(png.getvalue()).decode()})"
