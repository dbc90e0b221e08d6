"""Topic `fraud_scores`: what the fraud model said of each card transaction as it happened, a JSON object a record.

The relay `score_payments` writes it. The topic `fraud-alerts` has those of its records whose verdict is alert.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, Topic, digits, epoch

Verdict = Literal["alert", "clear", "unscored"]


class FraudScore(Record):
    """What was said of one transaction. A transaction that was sent twice, or scored again after a stop, has one id.

    `alert`: its score is the model's threshold or more. `unscored`: nothing could be said; `unscored_reason` says why.
    """

    score_id: Annotated[str, Meta(description="The transaction's id; <partition>-<offset> of a record without one")]
    timestamp: Annotated[str, Meta(description="When the transaction happened; where that is no time, when it arrived")]
    customer_id: Annotated[str, Meta(description="Whose card it is; empty where the record did not say")]
    verdict: Annotated[Verdict, Meta(description="alert, clear or unscored")]
    source_partition: Annotated[int, Meta(description="Kafka partition of the transaction's record")]
    source_offset: Annotated[int, Meta(description="Offset of the transaction's record")]
    received_at: Annotated[int, epoch("ms"), Meta(description="When Kafka got the transaction's record")]
    scored_at: Annotated[int, epoch("ms"), Meta(description="When it was scored")]
    transaction_id: Annotated[str | None, Meta(description="Which transaction, as in the topic `transactions`")] = None
    card_id: Annotated[str | None, Meta(description="Which card; a token, never the number on it")] = None
    kind: Annotated[str | None, Meta(description="payment, refund or reversal")] = None
    merchant_id: Annotated[str | None, Meta(description="Who is paid")] = None
    amount: Annotated[Decimal | None, digits(18, 2), Meta(description="Money that moves, in `currency`")] = None
    currency: Annotated[str | None, Meta(description="Currency of the amount")] = None
    country: Annotated[str | None, Meta(description="Country in which it was paid")] = None
    score: Annotated[float | None, Meta(description="Probability of fraud, as the model sees it; null: unscored")] = (
        None
    )
    model_version: Annotated[int | None, Meta(description="The model's version, as in platform.fraud_models")] = None
    reasons: Annotated[list[str], Meta(description="Of an alert: the strongest reasons, at most three, in words")] = []
    marks: Annotated[list[str], Meta(description="What the score had to do without, by name")] = []
    unscored_reason: Annotated[str | None, Meta(description="unreadable, no_model; null where it was scored")] = None
    shadow_score: Annotated[float | None, Meta(description="The score of the version that is on trial, if any")] = None
    shadow_version: Annotated[int | None, Meta(description="That version")] = None
    holds_card: Annotated[bool | None, Meta(description="Whether the alert holds its card until it is released")] = None
    features_as_of: Annotated[
        int | None, epoch("ms"), Meta(description="The moment up to which the card's past was known")
    ] = None


def refuse_half_a_score(score: FraudScore) -> tuple[str, str] | None:
    """Judges whether the verdict has what it stands on. The relay writes no other; an account that may write could.

    An alert without a card would hold none, and one without a score is nothing that a person could look into.
    """
    if score.verdict == "unscored":
        return None
    if score.score is None or score.model_version is None or not 0 <= score.score <= 1:
        return "no_score", f"verdict is {score.verdict}, score {score.score}, model_version {score.model_version}"
    if score.card_id is None:
        return "no_card", f"verdict is {score.verdict}, and card_id is null"
    return None


_SAID_ANEW = (
    "verdict", "source_partition", "source_offset", "received_at", "scored_at", "score", "model_version", "reasons",
    "marks", "unscored_reason", "shadow_score", "shadow_version", "holds_card", "features_as_of",
)  # fmt: skip
TOPIC = Topic(
    name="fraud_scores",
    description="What the fraud model said of each card transaction: typed, validated, once for each transaction.",
    record=FraudScore,
    event_time=EventTime("timestamp"),
    event_id=("score_id",),
    subject="customer_id",
    event_type="verdict",
    kafka_topic="fraud-scores",
    # A transaction that is scored once more is the same one, though the clock, the cards' past or the version differ.
    compared_as=dict.fromkeys(_SAID_ANEW, "NULL"),
    rules=(refuse_half_a_score,),
)
FRAUD_SCORES, QUARANTINED_FRAUD_SCORES, DEDUPLICATED_FRAUD_SCORES = TOPIC.tables
