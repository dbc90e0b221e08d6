"""A soak run's samples as a picture and as a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.soak_samples import BATCH_SECONDS, DATA_FILES, LOG_FILES, RSS_MIB, STATE_ROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Batches of one query differ by what else runs: the median of this many samples shows where they tend.
MEDIAN_SAMPLES = 7
# Below this a straight line means nothing.
MIN_SAMPLES_OF_A_SLOPE = 3
_SIZE_INCHES = (13.0, 8.0)
_DPI = 110


def read_samples(path: Path) -> pd.DataFrame:
    """The CSV's rows: seconds, metric, name, value."""
    return pd.read_csv(path)


def print_summary(samples: pd.DataFrame) -> None:
    """Slopes of memory and batch durations, state rows, files."""
    print("RSS MiB          last      slope per hour")
    for process, values in _split(samples, RSS_MIB).items():
        print(f"  {process:12} {values.iloc[-1]:8,.0f}  {_slope_per_hour(values):+12,.1f} MiB")
    print("batch seconds        median   slope per hour   state rows: max       last")
    states = _split(samples, STATE_ROWS)
    for query, values in _split(samples, BATCH_SECONDS).items():
        print(
            f"  {query:20} {_later(values).median():4.2f} {_slope_per_hour(values):+14.2f} s"
            f" {states[query].max():16,.0f} {states[query].iloc[-1]:10,.0f}"
        )
    print("files                        data: max   last    log: max   last")
    logs = _split(samples, LOG_FILES)
    for table, values in _split(samples, DATA_FILES).items():
        found = (values.max(), values.iloc[-1], logs[table].max(), logs[table].iloc[-1])
        print(f"  {table:28} {found[0]:8,.0f} {found[1]:6,.0f} {found[2]:11,.0f} {found[3]:6,.0f}")


def draw(samples: pd.DataFrame, path: Path, title: str) -> None:
    """Four panels over the run's minutes, as PNG: memory, batch durations, state, files."""
    # Not pyplot: it would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    memory, durations, state, files = figure.subplots(2, 2).flat
    _plot(memory, _split(samples, RSS_MIB), "resident memory, MiB")
    batches = _split(samples, BATCH_SECONDS)
    medians = {query: values.rolling(MEDIAN_SAMPLES, min_periods=1).median() for query, values in batches.items()}
    _plot(durations, medians, f"micro-batch, seconds (median of {MEDIAN_SAMPLES} samples; the start may be cut off)")
    # First batches take ten times as long as all others, which would be one flat line next to them.
    durations.set_ylim(top=1.2 * max(_later(values).max() for values in medians.values()))
    _plot(state, _split(samples, STATE_ROWS), "rows in state")
    _plot(files, _split(samples, DATA_FILES), "live data files (dashed: log files)")
    _plot(files, _split(samples, LOG_FILES), None)
    for axes in (state, files):
        axes.set_yscale("symlog", linthresh=10)  # zeros, tens and millions in one panel
    for axes in (memory, durations, state, files):
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    figure.savefig(path)


def _split(samples: pd.DataFrame, metric: str) -> dict[str, pd.Series]:
    """The metric's values over seconds, by name."""
    chosen = samples[samples["metric"] == metric]
    return {str(name): rows.set_index("seconds")["value"] for name, rows in chosen.groupby("name")}


def _later(values: pd.Series) -> pd.Series:
    """The last two thirds of the time."""
    return values[values.index >= values.index.max() / 3]


def _slope_per_hour(values: pd.Series) -> float:
    """The slope of the straight line nearest to the last two thirds; NaN for too few samples."""
    later = _later(values)
    if len(later) < MIN_SAMPLES_OF_A_SLOPE:
        return float("nan")
    return float(np.polyfit(later.index.to_numpy() / 3600, later.to_numpy(), 1)[0])


def _plot(axes: Axes, lines: dict[str, pd.Series], title: str | None) -> None:
    """One line a name. Without a title: dashed, over the lines that are there, in the same colours."""
    from matplotlib import colormaps

    colours = colormaps["tab10" if len(lines) <= colormaps["tab10"].N else "tab20"]
    for number, (name, values) in enumerate(lines.items()):
        line_style, label = ("--", None) if title is None else ("-", name)
        axes.plot(values.index / 60, values, line_style, color=colours(number), linewidth=1.3, label=label)
    if title is None:
        return
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
