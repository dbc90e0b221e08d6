"""Makes records of scores from records of card transactions, in Spark SQL alone: what `score_payments` runs.

Nothing that a record holds may end the query: what is no JSON, no number or no time is null, and the score says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from platform_assets.fraud.features import CARD_PREFIX, FEATURES, FRAUD_DEVICES
from platform_assets.fraud.scorecard_sql import part_sql, quote_text, score_sql, write_double

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from platform_assets.fraud.scorecard import Scorecard

REASONS = 3
"""How many reasons an alert has at most."""

# Of these the features are made; a null one is a mark on the score.
_RECORD = (
    "transaction_id string, kind string, timestamp string, card_id string, customer_id string, merchant_id string, "
    "merchant_category string, amount decimal(18,2), currency string, country string, channel string, device string"
)
# Kafka's producer refuses a record above a mebibyte, and the query that it ends would meet it again. A score repeats
# what its record says, an id twice and in its key too, and JSON may spell a character in six.
LONGEST_TEXT = 10_000
"""Characters of a text of a payment that is said again; of a longer one the payment is scored as if it had none."""
_EXPECTED = ("card_id", "amount", "currency", "merchant_category", "channel", "country")

# A batch joins what was known at its beginning, and the streams need some seconds more.
_STALE_SECONDS = 300

# Spark's current_timestamp() is when the batch began: minutes ago, of one that lasts so long. Kafka's time of a record
# is by default its sender's clock, which says nothing about how old something is.
_CLOCK = "CAST(reflect('java.lang.System', 'currentTimeMillis') AS BIGINT)"


def score_records(
    records: DataFrame,
    cards: DataFrame,
    serving: DataFrame,
    scorecards: Sequence[Scorecard],
    topics: tuple[str, str],
    hold_score: float,
) -> DataFrame:
    """Rows for Kafka (`topic`, `partition`, `key`, `value`) from rows of Spark's Kafka source.

    `cards` has the columns of `CARD_FEATURES`, each card once. `serving` has one row for the records' `topic`:
    `champion` and `shadow` (versions of `scorecards`, or null), `threshold` and `FRAUD_DEVICES`. `topics` are those of
    scores and of alerts: an alert goes to both, and from `hold_score` on it holds its card. Each record becomes exactly
    one score.
    """
    from pyspark.sql import functions as F

    read = _read(records)
    known = cards.select(*(F.col(name).alias(f"{CARD_PREFIX}{name}") for name in cards.columns))
    served = serving.select(F.col("topic").alias("source_topic"), "champion", "shadow", "threshold", FRAUD_DEVICES)
    rows = read.join(F.broadcast(known), F.col("card_id") == F.col(f"{CARD_PREFIX}card_id"), "left")
    rows = rows.join(F.broadcast(served), "source_topic", "left")
    own = set(rows.columns)
    rows = rows.withColumns({each.name: F.expr(each.serving_sql) for each in FEATURES if each.name not in own})
    # Columns of their own: within the score and again within its reasons they would be planned twice with each batch.
    rows = rows.withColumns({_parts_of(card): F.expr(_add_if_wanted(card)) for card in scorecards})
    rows = rows.withColumns({f"score_{card.version}": F.expr(_score(card)) for card in scorecards})
    rows = rows.withColumns(
        {
            "score": F.expr(
                _choose("champion", {card.version: f"score_{card.version}" for card in scorecards}, "double")
            ),
            "shadow_score": F.expr(
                _choose("shadow", {card.version: f"score_{card.version}" for card in scorecards}, "double")
            ),
        }
    )
    rows = rows.withColumn("verdict", F.expr(_VERDICT))
    reasons = {card.version: _name_reasons(card) for card in scorecards}
    rows = rows.withColumns(
        {name: F.expr(sql) for name, sql in _describe(reasons, _name_marks(scorecards), hold_score).items()}
    )
    scores, alerts = (quote_text(topic) for topic in topics)
    topic = f"explode(CASE WHEN verdict = 'alert' THEN array({scores}, {alerts}) ELSE array({scores}) END)"
    return rows.withColumn("topic", F.expr(topic)).select(
        "topic",
        F.col("source_partition").alias("partition"),
        F.coalesce("card_id", "score_id").alias("key"),
        F.to_json(F.struct(*_FIELDS)).alias("value"),
    )


_FIELDS = (
    "score_id", "timestamp", "customer_id", "verdict", "source_partition", "source_offset", "received_at", "scored_at",
    "transaction_id", "card_id", "kind", "merchant_id", "amount", "currency", "country", "score", "model_version",
    "reasons", "marks", "unscored_reason", "shadow_score", "shadow_version", "holds_card", "features_as_of",
)  # fmt: skip

_VERDICT = """CASE WHEN NOT is_readable OR score IS NULL THEN 'unscored'
    WHEN score >= threshold THEN 'alert' ELSE 'clear' END"""


def _read(records: DataFrame) -> DataFrame:
    """A row for each record, with the transaction's columns as in `silver.transactions`."""
    from pyspark.sql import functions as F

    rows = records.select(
        F.col("topic").alias("source_topic"),
        F.col("partition").alias("source_partition"),
        F.col("offset").alias("source_offset"),
        F.unix_millis("timestamp").alias("received_at"),
        F.from_json(F.col("value").cast("string"), _RECORD).alias("record"),
    )
    rows = rows.select(
        "source_topic", "source_partition", "source_offset", "received_at", *map(_shorten, _RECORD.split(", "))
    )
    is_readable = F.expr("transaction_id IS NOT NULL AND card_id IS NOT NULL")
    return rows.withColumns({"is_readable": is_readable, "event_time": F.expr("try_cast(timestamp AS TIMESTAMP)")})


def _shorten(field: str) -> Column:
    """A field of the record; null where it is too long to be sent again."""
    from pyspark.sql import functions as F

    name, kind = field.split(" ")
    value = F.col(f"record.{name}")
    return (F.when(F.char_length(value) <= LONGEST_TEXT, value) if kind == "string" else value).alias(name)


def _describe(reasons: Mapping[int, str], marks: str, hold_score: float) -> dict[str, str]:
    """SQL of the fields of a score that are not there yet, by name."""
    moment = "coalesce(event_time, timestamp_millis(received_at))"
    is_scored = "verdict <> 'unscored'"
    return {
        "score_id": "coalesce(transaction_id, concat(source_partition, '-', source_offset))",
        "timestamp": f"date_format({moment}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\")",
        "customer_id": "coalesce(customer_id, '')",
        "score": f"CASE WHEN {is_scored} THEN score END",
        "shadow_score": f"CASE WHEN {is_scored} THEN shadow_score END",
        "model_version": f"CASE WHEN {is_scored} THEN champion END",
        "shadow_version": f"CASE WHEN {is_scored} AND shadow_score IS NOT NULL THEN shadow END",
        "unscored_reason": f"CASE WHEN NOT is_readable THEN 'unreadable' WHEN NOT ({is_scored}) THEN 'no_model' END",
        "reasons": f"CASE WHEN verdict = 'alert' THEN {_choose('champion', reasons, 'array<string>')} END",
        "marks": f"CASE WHEN {is_scored} THEN {marks} END",
        "holds_card": f"CASE WHEN verdict = 'alert' THEN score >= {write_double(hold_score)} END",
        "features_as_of": f"unix_millis({CARD_PREFIX}as_of)",
        "scored_at": _CLOCK,
    }


def _parts_of(scorecard: Scorecard) -> str:
    """The column of what each part of a version adds."""
    return f"parts_{scorecard.version}"


def _add_if_wanted(scorecard: Scorecard) -> str:
    """A version that neither judges nor is on trial costs a comparison, not a score."""
    version, parts = f"{scorecard.version}L", ", ".join(map(part_sql, scorecard.parts))
    return f"CASE WHEN champion = {version} OR shadow = {version} THEN array({parts}) END"


def _score(scorecard: Scorecard) -> str:
    """Null where the parts are."""
    return score_sql(scorecard, [f"{_parts_of(scorecard)}[{place}]" for place in range(len(scorecard.parts))])


def _choose(column: str, by_version: Mapping[int, str], kind: str) -> str:
    if not by_version:
        return f"CAST(NULL AS {kind})"
    branches = " ".join(f"WHEN {version}L THEN {sql}" for version, sql in by_version.items())
    return f"CASE {column} {branches} END"


def _name_reasons(scorecard: Scorecard) -> str:
    """The words of the features that speak for fraud the most, the strongest first."""
    words = {each.name: each.words for each in FEATURES}
    names = f"array({', '.join(quote_text(words[part.feature]) for part in scorecard.parts)})"
    against = f"transform({_parts_of(scorecard)}, (part, place) -> named_struct('against', -part, 'place', place))"
    speaking = f"filter({against}, part -> part.against < 0.0D)"
    return f"transform(slice(array_sort({speaking}), 1, {REASONS}), part -> {names}[part.place])"


def _name_marks(scorecards: Iterable[Scorecard]) -> str:
    """What is not known of the transaction or its card, of all that the versions could use."""
    absent = [f"CASE WHEN {name} IS NULL THEN 'no {name}' END" for name in _EXPECTED]
    known: dict[str, set[str]] = {}
    for part in (part for scorecard in scorecards for part in scorecard.parts if part.kind == "category"):
        known.setdefault(part.feature, set()).update(part.steps)
    new = [
        f"CASE WHEN {name} NOT IN ({', '.join(map(quote_text, sorted(values)))}) THEN 'unknown {name}' END"
        for name, values in sorted(known.items())
        if values
    ]
    stale = f"{_CLOCK} - unix_millis({CARD_PREFIX}as_of) > {_STALE_SECONDS * 1000}L"
    past = f"CASE WHEN {CARD_PREFIX}card_id IS NULL THEN 'unknown card' WHEN {stale} THEN 'stale features' END"
    return f"array_compact(array({', '.join((*absent, *new, past))}))"
