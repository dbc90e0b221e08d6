"""Platt's calibration: a logistic curve from the raw score to the probability, fitted on rows the model has not seen.

By hand, and of two numbers, so that it goes into the scorecard: scikit-learn's own wraps the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError
from platform_assets.fraud.scorecard import to_probability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Newton's method takes five to ten steps here; one that has not arrived by then goes round in circles.
_MOST_STEPS = 100
_CLOSE_ENOUGH = 1e-12


def fit_platt(
    raw: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Slope and intercept by which `raw` becomes a probability; `weights` as in `quality`.

    The targets are Platt's, a little inside of 0 and 1: with few cases of fraud that are all above the others the slope
    would else grow without end. Raises `NotReadyError` for scores that do not rise with fraud.
    """
    import numpy as np

    weights = np.ones(len(raw)) if weights is None else weights
    fraud, honest = float(weights @ labels), float(weights @ ~labels)
    targets = np.where(labels, (fraud + 1) / (fraud + 2), 1 / (honest + 2))
    design = np.column_stack([raw, np.ones_like(raw)])
    found = np.array([1.0, 0.0])
    loss = _loss(design @ found, targets, weights)
    for _ in range(_MOST_STEPS):
        chance = to_probability(design @ found)
        gradient = design.T @ (weights * (chance - targets))
        curvature = (design * (weights * chance * (1 - chance))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        # A full step may go too far where the curve is flat.
        while (smaller := _loss(design @ (found - step), targets, weights)) > loss and _is_step(step):
            step = np.asarray(step / 2, np.float64)
        found, loss = found - step, min(loss, smaller)
        if np.abs(step).max() <= _CLOSE_ENOUGH * max(1.0, np.abs(found).max()):
            break
    if not found[0] > 0:
        raise NotReadyError("The fraud model's scores do not rise with fraud. Wait for more reports of fraud.")
    return float(found[0]), float(found[1])


def _is_step(step: NDArray[np.float64]) -> bool:
    import numpy as np

    return bool(np.abs(step).max() > _CLOSE_ENOUGH)


def _loss(logits: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    import numpy as np

    return float(weights @ (np.logaddexp(0, logits) - targets * logits))
