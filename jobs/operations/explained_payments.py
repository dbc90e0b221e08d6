"""`headrace explain --payment`: what is known of a card transaction: score, alert, reports, the card's last day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from jobs.operations.explained_tables import ExplainedTables, Lakehouse, show_clock
from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.fraud_scores import FRAUD_SCORES
from platform_assets.topics.transactions import DEDUPLICATED_TRANSACTIONS, TRANSACTIONS

# What somebody looks through before he calls the customer; a card that pays more in a day is a test of cards.
_MOST_PAYMENTS = 20
_DAY = timedelta(days=1)
_PAYMENT = [
    "transaction_id", "kind", "event_time", "card_id", "merchant_id", "merchant_category", "amount", "currency",
    "country", "channel", "device", "topic", "kafka_partition", "kafka_offset",
]  # fmt: skip


def explain_payment(lakehouse: Lakehouse, payment: str) -> list[str]:
    """What the tables say of a transaction by its id, in sentences. Reads some of them whole; changes nothing."""
    tables = ExplainedTables(lakehouse)
    if not tables.has(TRANSACTIONS.name):
        return ["The streams of card payments have not run yet: there is no table to look into."]
    paid = next(tables.find_rows(TRANSACTIONS.name, "transaction_id", payment, _PAYMENT), None)
    return [
        *(_describe_unknown(payment) if paid is None else _describe_payment(paid)),
        *_describe_repeats(tables, payment),
        *_describe_score(tables, payment),
        *_describe_hold(lakehouse, payment),
        *_describe_reports(tables, payment),
        *([] if paid is None else _describe_last_day(tables, paid)),
    ]


def _describe_unknown(payment: str) -> list[str]:
    return [
        f"{payment} is not in {TRANSACTIONS.name}. It was not sent, is not read yet, or is in quarantine: its record "
        "is there with its reason, and headrace explain --offset finds it."
    ]


def _describe_payment(row: Mapping[str, Any]) -> list[str]:
    where = f"{row['topic']}/{row['kafka_partition']}/{row['kafka_offset']}"
    return [
        f"{row['transaction_id']}: {_in_words(row)}, card {row['card_id']}, device {row['device'] or 'not known'}. "
        f"It happened at {show_clock(row['event_time'])}; its record is {where}."
    ]


def _in_words(row: Mapping[str, Any]) -> str:
    kind, amount = row["kind"] or "transaction", "unknown amount" if row["amount"] is None else row["amount"]
    country, channel = row["country"] or "a country that is not known", row["channel"] or "a way that is not known"
    return (
        f"{kind} of {amount} {row['currency'] or ''} at {row['merchant_id']} ({row['merchant_category']}) in {country} "
        f"by {channel}"
    )


def _describe_repeats(tables: ExplainedTables, payment: str) -> Iterator[str]:
    count = sum(1 for _ in tables.find_rows(DEDUPLICATED_TRANSACTIONS.name, "event_id", payment, []))
    if count:
        yield f"It was sent {count + 1:,} times; the repeats are in {DEDUPLICATED_TRANSACTIONS.name}."


def _describe_score(tables: ExplainedTables, payment: str) -> Iterator[str]:
    columns = [
        "verdict", "score", "model_version", "reasons", "marks", "unscored_reason", "shadow_score", "shadow_version",
        "received_at", "scored_at",
    ]  # fmt: skip
    row = next(tables.find_rows(FRAUD_SCORES.name, "score_id", payment, columns), None)
    if row is None:
        yield "It has no score: it came before the group fraud began, or the check scored names it as missing."
        return
    took = (row["scored_at"] - row["received_at"]) / timedelta(milliseconds=1)
    if row["verdict"] == "unscored":
        yield f"It was looked at {took:,.0f} ms after Kafka had it, and not scored: {row['unscored_reason']}."
        return
    verdict = "an alert" if row["verdict"] == "alert" else "no alert"
    yield f"Score {row['score']:.4f} by version {row['model_version']}, {took:,.0f} ms after Kafka had it: {verdict}."
    for place, reason in enumerate(row["reasons"] or [], 1):
        yield f"  Reason {place}: {reason}."
    if row["marks"]:
        yield f"It was scored without all that could be known: {', '.join(row['marks'])}."
    if row["shadow_score"] is not None:
        yield f"Version {row['shadow_version']}, on trial, gave it {row['shadow_score']:.4f}."
    if row["verdict"] == "alert" and not any(
        True for _ in tables.find_rows(FRAUD_ALERTS.name, "score_id", payment, [])
    ):
        yield f"{FRAUD_ALERTS.name} does not have it yet."


def _describe_hold(lakehouse: Lakehouse, payment: str) -> Iterator[str]:
    tables = ExplainedTables(lakehouse)
    hold = next(tables.find_rows(CARD_HOLDS.name, "score_id", payment, ["card_id", "as_of"]), None)
    if hold is None:
        return
    releases = [row for row in tables.read(CARD_RELEASES.name) if row["card_id"] == hold["card_id"]]
    over = [row for row in releases if row["as_of"] >= hold["as_of"]]
    if not over:
        yield f"It holds its card since {show_clock(hold['as_of'])}."
        return
    first = min(over, key=lambda row: row["as_of"])
    yield (
        f"It held its card from {show_clock(hold['as_of'])} until {first['by']} released it at "
        f"{show_clock(first['as_of'])}: {first['reason']}."
    )


def _describe_reports(tables: ExplainedTables, payment: str) -> Iterator[str]:
    found = list(tables.find_rows(FRAUD_REPORTS.name, "transaction_id", payment, ["event_time", "verdict", "source"]))
    for row in sorted(found, key=lambda each: each["event_time"]):
        said = "as fraud" if row["verdict"] == "fraud" else "as no fraud, after all"
        yield f"Reported by {row['source']} at {show_clock(row['event_time'])} {said}."
    if not found:
        yield "Nobody has reported it."


def _describe_last_day(tables: ExplainedTables, paid: Mapping[str, Any]) -> Iterator[str]:
    """Describes what the card did in the 24 hours before, the newest first."""
    until = paid["event_time"]
    rows = [
        row
        for row in tables.find_rows(TRANSACTIONS.name, "card_id", paid["card_id"], _PAYMENT)
        if until - _DAY < row["event_time"] <= until and row["transaction_id"] != paid["transaction_id"]
    ]
    rows.sort(key=lambda row: row["event_time"], reverse=True)
    yield f"The card's 24 hours before it: {len(rows):,} transactions{':' if rows else '.'}"
    for row in rows[:_MOST_PAYMENTS]:
        yield f"  {show_clock(row['event_time'])}  {_in_words(row)}"
    if len(rows) > _MOST_PAYMENTS:
        yield f"  and {len(rows) - _MOST_PAYMENTS:,} before these"
