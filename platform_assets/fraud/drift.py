"""Whether newer payments are still like those that a model was trained with, feature by feature.

The measure is the population stability index (PSI) over the steps of the scorecard: what changes within a step changes
no score. As usual up to 0.1 is noise and from 0.25 on the model looks at payments that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.fraud.scorecard import Part, Scorecard

if TYPE_CHECKING:
    import pyarrow as pa

WARN_PSI, FAIL_PSI = 0.1, 0.25

# A feature that a tenth more of the payments lack than in the training is one whose source has stopped. That fewer
# lack it is no harm: cards become known.
FAIL_MISSING = 0.1

# A step that no row of either side is on would make the index infinite.
_LEAST_SHARE = 1e-4

# These change by themselves: cards become known day by day until the profile's 28 days are full, and the newest rows
# are not whole days.
MOVING_FEATURES = frozenset({"known_days", "hour_of_day"})


@dataclass(frozen=True)
class Drift:
    """One feature: its index among known values, and by how much the share of missing ones has risen."""

    feature: str
    psi: float
    missing_rise: float

    @property
    def is_judged(self) -> bool:
        """Whether a change of it says anything about the payments."""
        return self.feature not in MOVING_FEATURES

    @property
    def is_failed(self) -> bool:
        """Whether a model must not be promoted for it."""
        return self.is_judged and (self.psi > FAIL_PSI or self.missing_rise > FAIL_MISSING)

    def __str__(self) -> str:
        return f"{self.feature}: PSI {self.psi:.2f}, missing {self.missing_rise:+.0%}"


def measure_drift(scorecard: Scorecard, rows: pa.Table) -> list[Drift]:
    """The drift of each feature from the scorecard's training rows to these; the greatest first."""
    found = [_measure_part(part, rows[part.feature]) for part in scorecard.parts]
    return sorted(found, key=lambda drift: -max(drift.psi, drift.missing_rise))


def _measure_part(part: Part, column: pa.ChunkedArray) -> Drift:
    import numpy as np

    counts = np.bincount(part.find_steps(column), minlength=len(part.values) + 1)
    actual, expected = counts / max(1, len(column)), np.array(part.shares)
    known_both = expected[:-1].sum() > 0 and actual[:-1].sum() > 0
    known = [each[:-1] / max(each[:-1].sum(), _LEAST_SHARE) for each in (expected, actual)]
    before, now = (np.maximum(each, _LEAST_SHARE) for each in known)
    psi = float(np.sum((now - before) * np.log(now / before))) if known_both else 0.0
    return Drift(part.feature, psi, float(actual[-1] - expected[-1]))
