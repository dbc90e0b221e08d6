"""Stream `fraud_alerts`: the card transactions that look like fraud, once each, for those who look into them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.fraud_scores import FRAUD_SCORES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FRAUD_ALERTS = TableSpec(
    name="gold.fraud_alerts",
    description="Card transactions that the fraud model took for fraud, with its strongest reasons. Those of the topic "
    "fraud-alerts, without what was sent twice.",
    grain="alert: transaction",
    key=("score_id",),
    columns=(
        Column("score_id", "string", "The transaction's id; <partition>-<offset> of a record without one"),
        Column("event_time", "timestamp", "When the transaction happened"),
        Column("customer_id", "string", "Whose card it is"),
        Column("card_id", "string", "Which card"),
        Column("kind", "string", "payment, refund or reversal"),
        Column("merchant_id", "string", "Who is paid"),
        Column("amount", "decimal(18,2)", "Money that moves, in `currency`"),
        Column("currency", "string", "Currency of the amount"),
        Column("country", "string", "Country in which it was paid"),
        Column("score", "double", "Probability of fraud, as the model sees it"),
        Column("model_version", "bigint", "The model's version, as in platform.fraud_models"),
        Column("reasons", "array<string>", "The strongest reasons, at most three, in words"),
        Column("marks", "array<string>", "What the score had to do without"),
        Column("received_at", "timestamp", "When Kafka got the transaction"),
        Column("scored_at", "timestamp", "When it was scored"),
    ),
    statistics_columns=("event_time", "score", "model_version"),
)

_COLUMNS = tuple(column.name for column in FRAUD_ALERTS.columns)


def select_alerts(scores: DataFrame) -> DataFrame:
    """The alerts among scores. Takes the columns of `STREAM.source`; returns rows of `FRAUD_ALERTS`."""
    from pyspark.sql import functions as F

    return scores.where(F.col("verdict") == "alert").select(*_COLUMNS)


STREAM = TableStream(
    name="fraud_alerts",
    source=TableSource(
        table=FRAUD_SCORES,
        columns=("verdict", *_COLUMNS),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=("alert",),
    ),
    tables=(FRAUD_ALERTS,),
    # Somebody waits for it: as often as records are read, at a prime of its own.
    trigger_seconds=3.0,
    transform=select_alerts,
    rule=f"SELECT {', '.join(_COLUMNS)} FROM events WHERE verdict = 'alert'",
    span=ResultSpan("event_time", "event_time", reach=timedelta(0), by_user=True, user_column="customer_id"),
)
