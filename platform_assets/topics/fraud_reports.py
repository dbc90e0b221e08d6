"""Topic `fraud_reports`: who says of which card transaction that it was fraud, or was not, a JSON object a record."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, Topic

Verdict = Literal["fraud", "no_fraud"]
ReportSource = Literal["customer", "issuer", "merchant"]


class FraudReport(Record):
    """What became known of one transaction, hours or weeks after it. The newest verdict of a transaction holds.

    A transaction without a report is not known to be honest: it may be reported later, or never.
    """

    report_id: Annotated[str, Meta(description="The report's own id; unique within the deduplication horizon")]
    timestamp: Annotated[str, Meta(description="When it was reported, not when the transaction happened")]
    transaction_id: Annotated[str, Meta(description="Which transaction, as in the topic `transactions`")]
    card_id: Annotated[str, Meta(description="The card of that transaction; a token, never the number on it")]
    customer_id: Annotated[str, Meta(description="Whose card it is")]
    verdict: Annotated[Verdict, Meta(description="fraud; or no_fraud, where an earlier report was wrong")]
    source: Annotated[ReportSource, Meta(description="Who says so: customer, issuer (of the card) or merchant")]


TOPIC = Topic(
    name="fraud_reports",
    description="Accepted reports of fraud: typed, validated, deduplicated by arrival, however late.",
    record=FraudReport,
    event_time=EventTime("timestamp"),
    event_id=("report_id",),
    subject="customer_id",
    event_type="verdict",
    kafka_topic="card-fraud-reports",
)
FRAUD_REPORTS, QUARANTINED_FRAUD_REPORTS, DEDUPLICATED_FRAUD_REPORTS = TOPIC.tables
