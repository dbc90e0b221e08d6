"""Trains a fraud model: trees of one feature each, which add up to a scorecard that is exactly the same model.

Rows are split by time, as the model will live: it learns from the oldest, is calibrated on the next, and is measured on
the newest, which nothing before has seen. Rows of fraud are not weighted: with weights the scores are no probabilities,
and boosting by the logarithmic loss finds one case in a thousand without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.errors import NotReadyError
from platform_assets.fraud.binning import Cuts, find_cuts
from platform_assets.fraud.platt import fit_platt
from platform_assets.fraud.quality import find_threshold
from platform_assets.fraud.scorecard import Kind, Part, Scorecard

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from sklearn.ensemble import HistGradientBoostingClassifier

# Of the rows in the order of their time: the rest is what the model is measured on.
_TRAIN_UNTIL, _CALIBRATE_UNTIL = 0.6, 0.8

# With fewer cases of fraud in a part of the rows its numbers are chance: one more or less is a tenth of the recall.
_LEAST_FRAUD = 10

# Between the library's sums, tree by tree, and ours, feature by feature, are the last bits of a double. More means
# that a tree has looked at two features, and that the scorecard is not the model.
_MOST_DIFFERENCE = 1e-9


@dataclass(frozen=True)
class Split:
    """The rows of a training by their use, oldest first."""

    train: pa.Table
    calibrate: pa.Table
    test: pa.Table


@dataclass(frozen=True)
class TrainedModel:
    """A scorecard, the library's model that it was made of (over the cuts' steps), and the rows behind it."""

    scorecard: Scorecard
    classifier: HistGradientBoostingClassifier
    cuts: tuple[Cuts, ...]
    split: Split


def split_by_time(rows: pa.Table, mature_until: datetime) -> Split:
    """The rows whose label is known, oldest first. Raises `NotReadyError` for fewer cases than say anything.

    Rows after `mature_until` are left out with their label: until honest payments count as such, those of fraud are all
    that is known, and the newest rows would be nothing but fraud.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    moment = pa.scalar(mature_until, rows["event_time"].type)
    known = rows.filter(pc.and_(pc.is_valid(rows["label"]), pc.less_equal(rows["event_time"], moment)))
    known = known.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")])
    first, second = int(len(known) * _TRAIN_UNTIL), int(len(known) * _CALIBRATE_UNTIL)
    split = Split(known.slice(0, first), known.slice(first, second - first), known.slice(second))
    for name, part in (("train", split.train), ("calibrate", split.calibrate), ("measure", split.test)):
        fraud = pc.sum(part["label"]).as_py() or 0
        if min(fraud, len(part) - fraud) < _LEAST_FRAUD:
            raise NotReadyError(
                f"{fraud:,} of {len(part):,} transactions to {name} the fraud model with are known as fraud; each side "
                f"needs {_LEAST_FRAUD}. Wait until more is reported, or simulate a longer history."
            )
    return split


def fit(
    rows: pa.Table, kinds: Mapping[str, Kind], mature_until: datetime, precision: float, version: int, now: datetime
) -> TrainedModel:
    """Trains `version` with these features (`kinds`: what each is), of rows as `read_training_rows` returns them.

    `precision` is the share of the alerts that is to be fraud at the threshold. Raises `NotReadyError` for too little
    to learn from.
    """
    from threadpoolctl import threadpool_limits

    split = split_by_time(rows, mature_until)
    labels = read_labels(split.train)
    cuts = tuple(find_cuts(name, kind, split.train[name], labels) for name, kind in kinds.items())
    steps = _apply_cuts(cuts, split.train)
    classifier = _build_classifier()
    # On a machine whose cores are busy with streams the threads of the library wait for each other in loops: two take
    # five times as long as one.
    with threadpool_limits(limits=1):
        classifier.fit(steps, labels)
    baseline, parts = _read_parts(classifier, cuts, steps)
    raw_card = Scorecard(version, now, 0.5, 1.0, 0.0, baseline, parts)
    _check_same(raw_card, classifier, split.calibrate, _apply_cuts(cuts, split.calibrate))
    slope, intercept = fit_platt(raw_card.raw_scores(split.calibrate), read_labels(split.calibrate))
    scored = Scorecard(version, now, 0.5, slope, intercept, baseline, parts)
    threshold = find_threshold(scored.score(split.calibrate), read_labels(split.calibrate), precision)
    scorecard = Scorecard(version, now, threshold, slope, intercept, baseline, parts)
    return TrainedModel(scorecard, classifier, cuts, split)


def read_labels(rows: pa.Table) -> NDArray[np.bool_]:
    """The labels of rows that all have one."""
    import numpy as np

    return np.asarray(rows["label"].to_numpy(), np.bool_)


def _apply_cuts(cuts: Sequence[Cuts], rows: pa.Table) -> NDArray[np.float64]:
    import numpy as np

    return np.column_stack([each.apply(rows[each.feature]) for each in cuts])


def _build_classifier() -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        # Each tree looks at one feature alone: so the trees of a feature add up to one table of steps.
        interaction_cst="no_interactions",
        learning_rate=0.2,
        max_iter=300,
        max_leaf_nodes=6,
        # A step that a handful of payments stand on is chance.
        min_samples_leaf=20,
        l2_regularization=1.0,
        # Stops where a seventh of the training's rows, which no tree saw, are no longer told apart better.
        early_stopping=True,
        validation_fraction=0.15,
        n_iter_no_change=15,
        random_state=0,
    )


def _read_parts(
    classifier: Any, cuts: Sequence[Cuts], steps: NDArray[np.float64]
) -> tuple[float, tuple[Part, ...]]:
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


def _check_same(card: Scorecard, classifier: Any, rows: pa.Table, steps: NDArray[np.float64]) -> None:
    """Raises `RuntimeError` where the scorecard is not the library's model: a defect, which must not go live."""
    import numpy as np

    difference = float(np.max(np.abs(card.raw_scores(rows) - classifier.decision_function(steps))))
    if not difference <= _MOST_DIFFERENCE:
        raise RuntimeError(f"The scorecard differs from its model by {difference}: a tree looks at several features.")
