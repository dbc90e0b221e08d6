"""Decides what becomes of a version: champion, shadow, or refused; and why, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from platform_assets.fraud.drift import Drift, measure_drift
from platform_assets.fraud.hand_rules import score_by_rules
from platform_assets.fraud.model_register import ModelRow
from platform_assets.fraud.quality import Quality, measure
from platform_assets.fraud.scorecard import Scorecard
from platform_assets.fraud.training import TrainedModel, read_labels, weigh

if TYPE_CHECKING:
    from platform_assets.fraud.live_scores import LiveComparison

PROMOTED, SHADOW, REFUSED = "promoted", "shadow", "refused"

# How much lower a version's average precision may be than the champion's. On a few hundred cases of fraud two equal
# models differ by as much, and one that is never renewed is the greater risk.
TOLERATED_LOSS = 0.02

# How long a shadow is scored along with the champion before it may take its place: a whole day, with its night.
SHADOW_TIME = timedelta(days=1)

# A shadow that would raise so many times the champion's alerts is more than those who look at them can take.
MOST_ALERTS = 2.0


@dataclass(frozen=True)
class Metrics:
    """What is kept of a version, as JSON in `platform.fraud_models`: measured on rows that it never saw."""

    model: Quality
    hand_rules: Quality
    champion: Quality | None
    champion_version: int | None
    alert_precision: float
    alert_recall: float
    drift: list[Drift] = field(default_factory=list)

    @classmethod
    def of(cls, row: ModelRow) -> Metrics:
        """Reads what was kept of a version."""
        return msgspec.json.decode(row.metrics, type=cls)

    def to_json(self) -> str:
        """The text of the column `metrics`."""
        return msgspec.json.encode(self).decode()

    def numbers(self) -> dict[str, float]:
        """The numbers by name, as MLflow keeps them."""
        found = {
            "precision": self.model.precision,
            "average_precision": self.model.average_precision,
            "brier": self.model.brier,
            "precision_of_hand_rules": self.hand_rules.precision,
            "alert_precision": self.alert_precision,
            "alert_recall": self.alert_recall,
            "test_rows": self.model.rows,
            "test_fraud": self.model.fraud,
        }
        if self.champion is not None:
            found["precision_of_champion"] = self.champion.precision
        return found | {f"psi_{drift.feature}": drift.psi for drift in self.drift}


def measure_model(model: TrainedModel, champion: Scorecard | None) -> Metrics:
    """Measures a version next to the hand rules and the champion, on the newest rows."""
    import numpy as np

    rows, labels = model.split.test, read_labels(model.split.test)
    weights = weigh(labels, model.honest_one_of)
    scores = model.scorecard.score(rows)
    alerts = scores >= model.scorecard.threshold
    knows_all = champion is not None and all(part.feature in rows.column_names for part in champion.parts)
    return Metrics(
        model=measure(scores, labels, weights),
        hand_rules=measure(score_by_rules(rows), labels, weights),
        champion=measure(champion.score(rows), labels, weights) if champion is not None and knows_all else None,
        champion_version=None if champion is None else champion.version,
        alert_precision=float(np.average(labels[alerts], weights=weights[alerts])) if alerts.any() else 0.0,
        alert_recall=float(alerts[labels].mean()),
        drift=measure_drift(model.scorecard, rows),
    )


def beats_hand_rules(metrics: Metrics) -> tuple[bool, str]:
    """Whether the version is better than the rules written by hand, and the sentence that says it."""
    mine, theirs = metrics.model.average_precision, metrics.hand_rules.average_precision
    return mine > theirs, f"Average precision {mine:.2f}, of the hand rules {theirs:.2f}."


def keeps_up_with_champion(metrics: Metrics) -> tuple[bool, str]:
    """Whether the version is no worse than the champion; true where there is none to compare with."""
    if metrics.champion is None:
        return True, "There is no champion that could be compared."
    mine, theirs = metrics.model.average_precision, metrics.champion.average_precision
    said = f"Average precision {mine:.2f}, of version {metrics.champion_version} {theirs:.2f}."
    return mine >= theirs - TOLERATED_LOSS, said


def has_not_drifted(metrics: Metrics) -> tuple[bool, str]:
    """Whether the newest rows are like those of the training."""
    judged = [drift for drift in metrics.drift if drift.is_judged]
    failed = [str(drift) for drift in judged if drift.is_failed]
    if failed:
        return False, "The newest payments are not like those of the training. " + "; ".join(failed) + "."
    return True, f"Greatest change: {judged[0]}." if judged else "The model looks at no feature that could drift."


def judge_new_version(metrics: Metrics, data_until: datetime, champion: ModelRow | None) -> tuple[str, Sequence[str]]:
    """What becomes of a version that was just trained: `PROMOTED`, `SHADOW` or `REFUSED`, and the reasons.

    The first one judges payments at once, if it is better than the hand rules: there is nothing to lose.
    """
    is_better, said = beats_hand_rules(metrics)
    if champion is None:
        return (PROMOTED if is_better else REFUSED), [said]
    if data_until < champion.data_until:
        return REFUSED, [f"It has learned from older payments than version {champion.version}."]
    verdicts = [(is_better, said), keeps_up_with_champion(metrics), has_not_drifted(metrics)]
    failed = [sentence for passed, sentence in verdicts if not passed]
    return (REFUSED, failed) if failed else (SHADOW, [sentence for _, sentence in verdicts])


def judge_shadow(since: datetime, now: datetime, live: LiveComparison | None) -> tuple[bool, str]:
    """Whether a shadow may become the champion now, and why or why not.

    `live`: how it did on payments that were scored by both; None where none were, or too few were reported: then what
    it did at its training has to do.
    """
    if now - since < SHADOW_TIME:
        return False, f"It has been the shadow since {since:%Y-%m-%d %H:%M} (UTC), and must be for a day."
    if live is None:
        return True, "A day has passed. Too few payments with a report were scored by both to compare them live."
    said = (
        f"Average precision {live.shadow_precision:.2f} on {live.rows:,} live payments, {live.fraud} of them reported; "
        f"the champion's {live.champion_precision:.2f}. {live.shadow_alerts:,} alerts, the champion's "
        f"{live.champion_alerts:,}."
    )
    is_as_good = live.shadow_precision >= live.champion_precision - TOLERATED_LOSS
    return is_as_good and live.shadow_alerts <= MOST_ALERTS * max(1, live.champion_alerts), said
