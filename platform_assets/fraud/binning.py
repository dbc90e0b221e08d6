"""Each feature cut into a few steps before the training: what the model learns by, and what a scorecard is made of.

Cuts are ours and not the library's: the steps are then known without looking into a trained model's private parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.fraud.scorecard import Kind, read_numbers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# As many from all rows, and as many from those of fraud: these are one in a hundred, and would lie in the last one of
# all rows' steps. More steps make the score's SQL longer than Java compiles, and no model better.
_CUTS = 20

# A category with fewer rows than this says nothing of its own. It counts as unknown, so that the model learns what an
# unknown one means, even where no row lacks the value.
_LEAST_ROWS = 20

# How many rows of the average a category's own rate is mixed with: without them one fraud among 20 rows would be 5 %.
_SMOOTHING_ROWS = 100.0


@dataclass(frozen=True)
class Cuts:
    """How one feature falls into steps, numbered from 0 on; missing is NaN. See `Part`."""

    feature: str
    kind: Kind
    thresholds: tuple[float, ...] = ()
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many steps there are."""
        return len(self.thresholds) + 1 if self.kind == "number" else len(self.steps)

    def apply(self, column: pa.ChunkedArray) -> NDArray[np.float64]:
        """Each row's step; NaN where it is missing."""
        import numpy as np

        if self.kind == "category":
            return np.array([self.steps.get(value, np.nan) for value in column.to_pylist()], np.float64)
        numbers = read_numbers(column)
        found = np.searchsorted(np.array(self.thresholds), numbers, side="left").astype(np.float64)
        return np.where(np.isnan(numbers), np.nan, found)


def find_cuts(feature: str, kind: Kind, column: pa.ChunkedArray, labels: NDArray[np.bool_]) -> Cuts:
    """Cuts by the rows of a training: numbers by their quantiles, categories in the order of their rate of fraud."""
    if kind == "category":
        return Cuts(feature, kind, steps=_rank_categories(column.to_pylist(), labels))
    numbers = read_numbers(column)
    return Cuts(feature, kind, _find_thresholds(numbers, labels))


def _find_thresholds(numbers: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, ...]:
    """Numbers that occur, the greatest left out: nothing would be above it."""
    import numpy as np

    known = np.isfinite(numbers)
    places = np.linspace(0, 1, _CUTS + 2)[1:-1]
    parts = [
        np.quantile(chosen, places, method="lower")
        for chosen in (numbers[known], numbers[known & labels])
        if len(chosen)
    ]
    found = np.unique(np.concatenate(parts)) if parts else np.array([])
    return tuple(float(each) for each in found if each < np.max(numbers[known]))


def _rank_categories(values: list[str | None], labels: NDArray[np.bool_]) -> dict[str, int]:
    counts: dict[str, list[int]] = {}
    for value, label in zip(values, labels.tolist(), strict=True):
        if value is not None:
            count = counts.setdefault(value, [0, 0])
            count[0] += 1
            count[1] += label
    average = float(labels.mean()) if len(labels) else 0.0
    rates = {
        value: (fraud + average * _SMOOTHING_ROWS) / (rows + _SMOOTHING_ROWS)
        for value, (rows, fraud) in counts.items()
        if rows >= _LEAST_ROWS
    }
    # By the name too: two of one rate must not change places between two trainings.
    return {value: rank for rank, value in enumerate(sorted(rates, key=lambda each: (rates[each], each)))}
