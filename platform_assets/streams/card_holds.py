"""Stream `card_holds`: alerts that hold their card until a person releases it, for the gateway that asks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.stream_spec import PublishedState, TableSource, TableStream
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.fraud_scores import FRAUD_SCORES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HOLDS_TOPIC = "card-holds"
HELD, RELEASED = "held", "released"

CARD_HOLDS = TableSpec(
    name="gold.card_holds",
    description="Alerts whose score was HEADRACE_HOLD_SCORE or more: each holds its card until a person releases it.",
    grain="alert that holds its card",
    key=("score_id",),
    columns=(
        Column("score_id", "string", "The transaction's id"),
        Column("card_id", "string", "Which card"),
        Column("customer_id", "string", "Whose card it is"),
        Column("event_time", "timestamp", "When the transaction happened"),
        Column("as_of", "timestamp", "When it was scored: the card is held from here on"),
        Column("state", "string", f"{HELD}; a release is a row of platform.card_releases"),
        Column("score", "double", "Probability of fraud, as the model sees it"),
        Column("model_version", "bigint", "The model's version, as in platform.fraud_models"),
        Column("reasons", "array<string>", "The strongest reasons, in words"),
    ),
    statistics_columns=("event_time", "as_of"),
)


def select_holds(scores: DataFrame) -> DataFrame:
    """The alerts that hold their card. Takes the columns of `STREAM.source`; returns rows of `CARD_HOLDS`."""
    from pyspark.sql import functions as F

    return scores.where("holds_card").select(
        "score_id", "card_id", "customer_id", "event_time", F.col("scored_at").alias("as_of"),
        F.lit(HELD).alias("state"), "score", "model_version", "reasons",
    )  # fmt: skip


STREAM = TableStream(
    name="card_holds",
    source=TableSource(
        table=FRAUD_SCORES,
        columns=(
            "holds_card", "score_id", "card_id", "customer_id", "event_time", "scored_at", "score", "model_version",
            "reasons",
        ),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=("alert",),
    ),
    tables=(CARD_HOLDS,),
    # The next payment of the card may come within seconds; at a prime of its own.
    trigger_seconds=2.0,
    transform=select_holds,
    rule=f"""
        SELECT score_id, card_id, customer_id, event_time, scored_at AS as_of, '{HELD}' AS state, score, model_version,
               reasons
        FROM events WHERE holds_card""",
    span=ResultSpan("event_time", "event_time", reach=timedelta(0), by_user=True, user_column="customer_id"),
    publish_topic=HOLDS_TOPIC,
    published_state=PublishedState(key=("card_id",), time_column="as_of", others=(CARD_RELEASES,)),
)  # fmt: skip
