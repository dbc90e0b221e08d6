"""Trains a fraud model: trees of one feature each, which add up to a scorecard that is exactly the same model.

Rows are split by time, as the model will live: it learns from the oldest, is calibrated on the next, and is measured on
the newest, which nothing before has seen. Rows of fraud are not weighted: with weights the scores are no probabilities,
and boosting by the logarithmic loss finds one case in a thousand without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError
from platform_assets.fraud.binning import Cuts, find_cuts
from platform_assets.fraud.platt import fit_platt
from platform_assets.fraud.quality import find_threshold
from platform_assets.fraud.scorecard import Kind, Scorecard
from platform_assets.fraud.trained_parts import check_same, leave_out, read_parts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from sklearn.ensemble import HistGradientBoostingClassifier

# Of the rows in the order of their time: the rest is what the model is measured on.
_TRAIN_UNTIL, _CALIBRATE_UNTIL = 0.6, 0.8

# With fewer cases of fraud in a part of the rows its numbers are chance: one more or less is a tenth of the recall.
_LEAST_FRAUD = 10


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
    honest_one_of: int


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
    rows: pa.Table,
    kinds: Mapping[str, Kind],
    mature_until: datetime,
    precision: float,
    version: int,
    now: datetime,
    honest_one_of: int = 1,
) -> TrainedModel:
    """Trains `version` with these features (`kinds`: what each is), of rows as `read_training_rows` returns them.

    `precision` is the share of the alerts that is to be fraud at the threshold. Raises `NotReadyError` for too little
    to learn from. `honest_one_of`: of this many honest payments one is among the rows.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    split = split_by_time(rows, mature_until)
    labels = read_labels(split.train)
    found = [find_cuts(name, kind, split.train[name], labels) for name, kind in kinds.items()]
    unknown = {each.feature for each in found if np.isnan(each.apply(split.train[each.feature])).all()}
    # The library refuses a column in which nothing is known. Such a feature adds nothing until there is more of it.
    cuts = tuple(each for each in found if each.feature not in unknown)
    steps = _apply_cuts(cuts, split.train)
    classifier = _build_classifier()
    # On a machine whose cores are busy with streams the threads of the library wait for each other in loops: two take
    # five times as long as one.
    with threadpool_limits(limits=1):
        classifier.fit(steps, labels, sample_weight=weigh(labels, honest_one_of))
    baseline, parts = read_parts(classifier, cuts, steps)
    parts += tuple(leave_out(name, kind) for name, kind in kinds.items() if name in unknown)
    raw_card = Scorecard(version, now, 0.5, 1.0, 0.0, baseline, parts)
    check_same(raw_card, classifier, split.calibrate, _apply_cuts(cuts, split.calibrate))
    outcomes = read_labels(split.calibrate)
    weights = weigh(outcomes, honest_one_of)
    slope, intercept = fit_platt(raw_card.raw_scores(split.calibrate), outcomes, weights)
    scored = replace(raw_card, slope=slope, intercept=intercept)
    threshold = find_threshold(scored.score(split.calibrate), outcomes, precision, weights)
    return TrainedModel(replace(scored, threshold=threshold), classifier, cuts, split, honest_one_of)


def weigh(labels: NDArray[np.bool_], honest_one_of: int) -> NDArray[np.float64]:
    """How many payments each row stands for."""
    import numpy as np

    return np.where(labels, 1.0, float(honest_one_of))


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
        # A step on which nearly all payments are fraud weighs little at first, for each looks sure to be honest. With
        # 1.0 the first trees went too far there: the loss rose from tree to tree, and the training stopped at once.
        l2_regularization=10.0,
        # Stops where a seventh of the training's rows, which no tree saw, are no longer told apart better.
        early_stopping=True,
        validation_fraction=0.15,
        n_iter_no_change=15,
        random_state=0,
    )
