"""Rules as an analyst writes them without a model: what a trained one has to beat before it may judge a payment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.fraud.scorecard import read_numbers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# Feature, from which value on it is suspicious, and how much. The numbers are round, as people write them: half as much
# again is 0.4 in natural logarithms, three times as much 1.1.
RULES = (
    ("recent_countries", 2, 2.0),
    ("recent_payments", 3, 1.0),
    ("recent_merchants", 3, 1.0),
    ("hour_payments", 4, 1.0),
    ("country_is_new", 1, 1.0),
    ("device_is_new", 1, 1.0),
    ("amount_to_usual", 1.1, 1.0),
    ("refund_to_usual", 0.4, 1.0),
    ("hour_amount_to_usual", 2.3, 1.0),
)


def score_by_rules(rows: pa.Table) -> NDArray[np.float64]:
    """Adds up the points of the rules that hold. What is not known fulfils none, nor does a feature with no column."""
    import numpy as np

    points = np.zeros(len(rows))
    for feature, least, worth in RULES:
        if feature in rows.column_names:
            points += worth * (np.nan_to_num(read_numbers(rows[feature]), nan=-np.inf) >= least)
    return points
