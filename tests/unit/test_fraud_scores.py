"""What a record of the topic fraud-scores has to say: others than the relay may be able to write there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.topics.fraud_scores import TOPIC
from tests.unit.test_record_lists import MICROS, as_kafka_batch

MILLIS = MICROS // 1000
ALERT: dict[str, Any] = {
    "score_id": "t1", "timestamp": "2026-01-15T08:00:00.000000Z", "customer_id": "c1", "verdict": "alert",
    "source_partition": 0, "source_offset": 7, "received_at": MILLIS, "scored_at": MILLIS + 4, "transaction_id": "t1",
    "card_id": "card-1", "kind": "payment", "amount": 12.5, "score": 0.93, "model_version": 2,
    "reasons": ["the amount is large"], "marks": [], "holds_card": True,
}  # fmt: skip
UNSCORED = {"verdict": "unscored", "score": None, "model_version": None, "card_id": None, "holds_card": None}


def judge(**changes: Any) -> dict[str, Any]:
    batch = as_kafka_batch([json.dumps(ALERT | changes).encode()], [(0, 0)])
    (row,) = parse_batch(batch, TOPIC, MICROS, 1_000_000, EventRules()).to_pylist()
    return row


@pytest.mark.parametrize(
    "changes", [{}, {"score": 0}, {"score": 1}, {"verdict": "clear", "reasons": [], "holds_card": None}, UNSCORED]
)
def test_what_the_relay_says_is_accepted(changes: dict[str, Any]) -> None:
    row = judge(**changes)
    assert row["_reason"] is None, row["_detail"]
    assert (row["verdict"], row["score"]) == (changes.get("verdict", "alert"), changes.get("score", 0.93))


@pytest.mark.parametrize("verdict", ["alert", "clear"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": None}, "no_score"),
        ({"model_version": None}, "no_score"),
        ({"score": 1.01}, "no_score"),
        ({"score": -1e-9}, "no_score"),
        ({"card_id": None}, "no_card"),
        ({"scored_at": 10**18}, "wrong_type"),
        ({"score": "0.9"}, "wrong_type"),
        ({"reasons": "a"}, "wrong_type"),
    ],
)
def test_a_verdict_without_what_it_stands_on_is_quarantined(verdict: str, changes: dict[str, Any], reason: str) -> None:
    """It would hold no card, and end what shows it."""
    assert judge(verdict=verdict, **changes)["_reason"] == reason
