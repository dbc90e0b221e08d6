"""Relay `score_payments`: each card transaction gets a score and, where it looks like fraud, becomes an alert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.streaming.relay_spec import RelayStream
from platform_assets.tables.fraud import FRAUD_SERVING
from platform_assets.topics.fraud_scores import TOPIC as FRAUD_SCORES
from platform_assets.topics.transactions import TOPIC as TRANSACTIONS
from resources.settings import load_settings

if TYPE_CHECKING:
    from platform_assets.fraud.scoring import FraudScoring
    from platform_assets.streaming.context import StreamContext

ALERTS_TOPIC = "fraud-alerts"


def _open(context: StreamContext) -> FraudScoring:
    # Not at the top: the code server loads this file, and needs no engine.
    from platform_assets.fraud.scoring import FraudScoring

    return FraudScoring(context, FRAUD_SCORES.kafka_topic, ALERTS_TOPIC, load_settings().hold_score)


RELAY = RelayStream(
    name="score_payments",
    source=TRANSACTIONS,
    outputs=(FRAUD_SCORES.kafka_topic, ALERTS_TOPIC),
    open=_open,
    refresh_seconds=10.0,
    tables=(CARD_FEATURES, FRAUD_SERVING),
)
