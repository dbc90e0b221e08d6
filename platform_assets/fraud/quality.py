"""How well scores tell fraud: precision and recall, the precision at a fixed recall, and how true the scores are.

`weights`, here as in the training: how many payments each row stands for, where of the honest ones only some are read;
None for one each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The recall at which models and rules are compared: four of five known frauds are found.
COMPARED_RECALL = 0.8

_CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Curve:
    """Precision and recall by threshold, highest threshold first. Scores that are equal are one point."""

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def average_precision(self) -> float:
        """The area under the curve, by steps."""
        import numpy as np

        return float(np.sum(np.diff(np.append(0.0, self.recall)) * self.precision))

    def precision_at(self, recall: float) -> float:
        """The highest precision with at least this recall."""
        import numpy as np

        return float(np.max(self.precision[self.recall >= recall - 1e-12]))


def draw_curve(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> Curve:
    """The curve of these scores. There is fraud among the labels."""
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    weights = np.ones(len(scores)) if weights is None else weights
    last_of_each = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    found = np.cumsum((weights * labels)[order])[last_of_each]
    alerts = np.cumsum(weights[order])[last_of_each]
    return Curve(sorted_scores[last_of_each], found / alerts, found / found[-1])


def find_threshold(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    precision: float,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """The lowest threshold whose alerts are fraud in this share; where none has it, the one that comes nearest."""
    import numpy as np

    curve = draw_curve(scores, labels, weights)
    wanted = min(precision, float(curve.precision.max()))
    return float(curve.thresholds[np.flatnonzero(curve.precision >= wanted)[-1]])


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of like scores: how many there are, their mean score, and which share of them was fraud."""

    rows: int
    mean_score: float
    fraud_share: float


def compare_with_outcomes(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> list[CalibrationBin]:
    """Rows by their score, from 0 to 1 in ten bins; those without rows are left out."""
    import numpy as np

    places = np.minimum((scores * _CALIBRATION_BINS).astype(np.intp), _CALIBRATION_BINS - 1)
    weights = np.ones(len(scores)) if weights is None else weights
    return [
        CalibrationBin(
            int(weights[chosen].sum()),
            float(np.average(scores[chosen], weights=weights[chosen])),
            float(np.average(labels[chosen], weights=weights[chosen])),
        )
        for place in range(_CALIBRATION_BINS)
        if (chosen := places == place).any()
    ]


@dataclass(frozen=True)
class Quality:
    """What is said of scores in a sentence: over how many rows, and how well they tell fraud."""

    rows: int
    fraud: int
    precision: float
    """At `COMPARED_RECALL`, for people: with few cases of fraud this one number jumps; `average_precision` does not."""
    average_precision: float
    brier: float
    """The mean squared distance of the score from what happened; lower is better."""


def measure(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> Quality:
    """The quality of these scores. There is fraud among the labels."""
    import numpy as np

    curve = draw_curve(scores, labels, weights)
    return Quality(
        rows=len(scores) if weights is None else int(weights.sum()),
        fraud=int(labels.sum()),
        precision=curve.precision_at(COMPARED_RECALL),
        average_precision=curve.average_precision,
        brier=float(np.average((scores - labels) ** 2, weights=weights)),
    )
