"""Topic `transactions`: what cards pay and get back, a JSON object a record."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, Topic, digits

TransactionKind = Literal["payment", "refund", "reversal"]


class Transaction(Record):
    """One movement on a card. Amounts have no sign: `kind` says which way the money goes.

    A refund gives back a part of a payment or all of it, days later as a rule; a reversal undoes a payment that has
    just been made. Which payment that was is not said.
    """

    transaction_id: Annotated[str, Meta(description="The movement's own id; unique within the deduplication horizon")]
    kind: Annotated[TransactionKind, Meta(description="payment, refund or reversal")]
    timestamp: Annotated[str, Meta(description="When it happened, as the card's network says")]
    card_id: Annotated[str, Meta(description="Which card; a token, never the number on it")]
    customer_id: Annotated[str, Meta(description="Whose card it is")]
    merchant_id: Annotated[str, Meta(description="Who is paid")]
    merchant_category: Annotated[str, Meta(description="What the merchant sells")]
    amount: Annotated[Decimal, digits(18, 2), Meta(description="Money that moves, in `currency`; never below 0")]
    currency: Annotated[str, Meta(description="Currency of the amount, three capitals", pattern=r"^[A-Z]{3}\Z")]
    merchant_name: Annotated[str | None, Meta(description="The merchant's name")] = None
    country: Annotated[str | None, Meta(description="Country in which it was paid, two capitals")] = None
    channel: Annotated[str | None, Meta(description="How: chip, contactless, online, recurring, cash")] = None
    device: Annotated[str | None, Meta(description="Id of the terminal, phone or browser that it was made with")] = None
    is_fraud: Annotated[bool | None, Meta(description="Whether it was fraud, where known: to learn from")] = None


def refuse_negative(transaction: Transaction) -> tuple[str, str] | None:
    """Judges the amount: a sender that writes refunds with a sign would have them counted twice over.

    A rule, for a limit on the type is not to be had for decimals.
    """
    if transaction.amount < 0:
        return "negative_amount", f"amount is {transaction.amount}"
    return None


TOPIC = Topic(
    name="transactions",
    description="Accepted card transactions: typed, validated, deduplicated by arrival, however late.",
    record=Transaction,
    event_time=EventTime("timestamp"),
    event_id=("transaction_id",),
    subject="customer_id",
    event_type="kind",
    kafka_topic="card-transactions",
    rules=(refuse_negative,),
)
TRANSACTIONS, QUARANTINED_TRANSACTIONS, DEDUPLICATED_TRANSACTIONS = TOPIC.tables
