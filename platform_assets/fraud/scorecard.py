"""A fraud model as one takes it along: for each feature a table of steps, whose numbers are added up to a score.

A scorecard needs no library of machine learning: it is JSON, and as Spark SQL (`platform_assets.fraud.scorecard_sql`)
it judges a payment within the micro-batch. Each feature's number is its own part of the score: a part above 0 speaks
for fraud, compared with the average of the payments that the model was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from platform_assets.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Kind = Literal["number", "category"]


@dataclass(frozen=True)
class Part:
    """What one feature adds to the score.

    A number that is at most `thresholds[i]`, and above the one before, adds `values[i]`; above all of them it adds the
    last value. A category adds `values[steps[category]]`. Null, NaN and a category that is not in `steps` add
    `missing`. `shares`: which share of the rows of the training fell on each value, and last on `missing`.
    """

    feature: str
    kind: Kind
    missing: float
    values: tuple[float, ...]
    shares: tuple[float, ...]
    thresholds: tuple[float, ...] = ()
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `UsageError` for a part whose tables do not fit each other."""
        numbers = len(self.thresholds) + 1 if self.kind == "number" else max(self.steps.values(), default=-1) + 1
        ascending = all(low < high for low, high in zip(self.thresholds, self.thresholds[1:], strict=False))
        if not ascending or len(self.values) != numbers or len(self.shares) != numbers + 1:
            raise UsageError(f"Scorecard: the part {self.feature} does not fit together. Train the model again.")

    def find_steps(self, column: pa.ChunkedArray) -> NDArray[np.intp]:
        """Finds the value on which each row falls; `len(values)` where it is missing."""
        import numpy as np

        unknown = len(self.values)
        if self.kind == "category":
            return np.array([self.steps.get(value, unknown) for value in column.to_pylist()], np.intp)
        numbers = read_numbers(column)
        found = np.searchsorted(np.array(self.thresholds), numbers, side="left")
        return np.where(np.isnan(numbers), unknown, found)

    def score(self, column: pa.ChunkedArray) -> NDArray[np.float64]:
        """What each row of this feature's column adds."""
        import numpy as np

        return np.array([*self.values, self.missing])[self.find_steps(column)]


@dataclass(frozen=True)
class Scorecard:
    """One version of the model. A payment whose score is `threshold` or more is an alert.

    The raw score is `baseline` and all parts added up; the score is 1 / (1 + exp(-(slope * raw + intercept))), the
    probability that the payment is fraud.
    """

    version: int
    trained_at: datetime
    threshold: float
    slope: float
    intercept: float
    baseline: float
    parts: tuple[Part, ...]

    @classmethod
    def from_json(cls, text: str | bytes) -> Scorecard:
        """Reads what `to_json` has written. Raises `UsageError` for a text that is no scorecard."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise UsageError(f"Scorecard: {error}. Train the model again, or go back to an older version.") from None

    def to_json(self) -> str:
        """All of it; numbers keep each of their bits."""
        return msgspec.json.encode(self).decode()

    def raw_scores(self, rows: pa.Table) -> NDArray[np.float64]:
        """The sum of each row's parts, before it is made a probability."""
        import numpy as np

        total = np.full(len(rows), self.baseline)
        for part in self.parts:
            total += part.score(rows[part.feature])
        return total

    def score(self, rows: pa.Table) -> NDArray[np.float64]:
        """The probability of fraud of each row; `rows` have a column for each feature, by its name."""
        return to_probability(self.slope * self.raw_scores(rows) + self.intercept)


def to_probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without an overflow at either end."""
    import numpy as np

    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def read_numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers or booleans as doubles; NaN where it is null."""
    import numpy as np
    import pyarrow as pa

    kind = pa.float64() if not pa.types.is_boolean(column.type) else pa.uint8()
    known = column.cast(kind).cast(pa.float64(), safe=False)
    return np.asarray(known.to_numpy(), np.float64)
