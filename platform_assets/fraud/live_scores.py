"""How champion and shadow did on the same live payments: both scores of each, next to what was reported of it since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.fraud.quality import draw_curve
from platform_assets.topics.fraud_reports import FRAUD_REPORTS

if TYPE_CHECKING:
    import duckdb

    from platform_assets.fraud.scorecard import Scorecard

FRAUD_SCORES = "silver.fraud_scores"

# With fewer reported payments one more or less decides.
_LEAST_FRAUD = 10


@dataclass(frozen=True)
class LiveComparison:
    """Average precision of both models, and how many alerts each would raise at its own threshold."""

    rows: int
    fraud: int
    champion_precision: float
    shadow_precision: float
    champion_alerts: int
    shadow_alerts: int


def compare_live(
    lakehouse: Any, connection: duckdb.DuckDBPyConnection, champion: Scorecard, shadow: Scorecard, since: datetime
) -> LiveComparison | None:
    """Compares them on payments from `since` on that both have scored; None for too few that were reported as fraud.

    What is not reported counts as honest: that is not sure yet, and equally unsure for both.
    """
    import numpy as np

    scores, reports = lakehouse.find_table(FRAUD_SCORES), lakehouse.find_table(FRAUD_REPORTS.name)
    if scores is None or reports is None:
        return None
    register_pinned(connection, "fraud_scores", scores)
    register_pinned(connection, "fraud_reports", reports)
    found = connection.execute(
        f"""
        WITH newest AS (
          SELECT transaction_id, max_by(verdict, event_time) AS verdict FROM fraud_reports GROUP BY transaction_id
        )
        SELECT s.score, s.shadow_score, coalesce(n.verdict = 'fraud', FALSE) AS is_fraud
        FROM fraud_scores s LEFT JOIN newest n USING (transaction_id)
        WHERE s.model_version = ? AND s.shadow_version = ? AND s.event_time >= {as_timestamptz(since)}
          AND s.score IS NOT NULL AND s.shadow_score IS NOT NULL
        """,
        [champion.version, shadow.version],
    ).fetchnumpy()
    labels = np.asarray(found["is_fraud"], np.bool_)
    if labels.sum() < _LEAST_FRAUD:
        return None
    ours, theirs = np.asarray(found["score"], np.float64), np.asarray(found["shadow_score"], np.float64)
    return LiveComparison(
        rows=len(labels),
        fraud=int(labels.sum()),
        champion_precision=draw_curve(ours, labels).average_precision,
        shadow_precision=draw_curve(theirs, labels).average_precision,
        champion_alerts=int((ours >= champion.threshold).sum()),
        shadow_alerts=int((theirs >= shadow.threshold).sum()),
    )
