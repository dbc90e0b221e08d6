"""Reads a scorecard's parts out of the library's model, by asking it: none of its private fields is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from platform_assets.fraud.binning import Cuts
from platform_assets.fraud.scorecard import Kind, Part, Scorecard

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# Between the library's sums, tree by tree, and ours, feature by feature, are the last bits of a double. More means
# that a tree has looked at two features, and that the scorecard is not the model.
_MOST_DIFFERENCE = 1e-9


def read_parts(classifier: Any, cuts: Sequence[Cuts], steps: NDArray[np.float64]) -> tuple[float, tuple[Part, ...]]:
    """What each step of each feature adds, found by asking: a row with that step alone, all else missing.

    Parts are counted from the average of the training's rows, so that they say what speaks for fraud and what against.
    """
    import numpy as np

    sizes = [each.count for each in cuts]
    questions = np.full((1 + sum(sizes), len(cuts)), np.nan)
    row = 1
    for place, size in enumerate(sizes):
        questions[row : row + size, place] = np.arange(size)
        row += size
    answers = classifier.decision_function(questions)
    total, parts, row = float(answers[0]), [], 1
    for place, each in enumerate(cuts):
        values = np.append(answers[row : row + each.count] - answers[0], 0.0)
        row += each.count
        column = np.where(np.isnan(steps[:, place]), each.count, steps[:, place]).astype(np.intp)
        shares = np.bincount(column, minlength=each.count + 1) / len(steps)
        average = float(shares @ values)
        total += average
        parts.append(_merge_steps(each, values - average, shares))
    return total, tuple(parts)


def leave_out(feature: str, kind: Kind) -> Part:
    """The part of a feature of which no row of the training knew anything."""
    return Part(feature, kind, 0.0, (0.0,), (0.0, 1.0)) if kind == "number" else Part(feature, kind, 0.0, (), (1.0,))


def _merge_steps(cuts: Cuts, values: NDArray[np.float64], shares: NDArray[np.float64]) -> Part:
    """A feature's part. Neighbours that add the same, but for the last bits, are one step."""
    import numpy as np

    kept, missing = values[:-1], float(values[-1])
    begins = np.append(True, np.abs(np.diff(kept)) > _MOST_DIFFERENCE / 1000) if len(kept) else np.array([], bool)
    starts = np.flatnonzero(begins)
    merged = tuple(float(each) for each in kept[starts])
    summed = tuple(float(part.sum()) for part in np.split(shares[:-1], starts[1:])) if len(kept) else ()
    of_step = np.cumsum(begins) - 1
    return Part(
        feature=cuts.feature,
        kind=cuts.kind,
        missing=missing,
        values=merged,
        shares=(*summed, float(shares[-1])),
        thresholds=tuple(cuts.thresholds[start - 1] for start in starts[1:]) if cuts.kind == "number" else (),
        steps={category: int(of_step[step]) for category, step in cuts.steps.items()},
    )


def check_same(card: Scorecard, classifier: Any, rows: pa.Table, steps: NDArray[np.float64]) -> None:
    """Raises `RuntimeError` where the scorecard is not the library's model: a defect, which must not go live."""
    import numpy as np

    difference = float(np.max(np.abs(card.raw_scores(rows) - classifier.decision_function(steps))))
    if not difference <= _MOST_DIFFERENCE:
        raise RuntimeError(f"The scorecard differs from its model by {difference}: a tree looks at several features.")
