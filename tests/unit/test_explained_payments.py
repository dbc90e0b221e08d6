"""`headrace explain --payment`: of a transaction that is known, scored and reported, and of one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.cli.__main__ import main
from jobs.operations.explained_payments import explain_payment
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.fraud_scores import FRAUD_SCORES
from platform_assets.topics.transactions import DEDUPLICATED_TRANSACTIONS, TRANSACTIONS
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(root=str(tmp_path))


def write(lakehouse: LakehouseResource, spec: TableSpec, *rows: Mapping[str, Any]) -> None:
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, pa.Table.from_pylist([dict(row) for row in rows], build_arrow_schema(spec)), mode="append")


def payment(number: int, hours_before: float, card: str = "c1") -> dict[str, Any]:
    at = NOON - timedelta(hours=hours_before)
    return {
        "transaction_id": f"t{number}", "kind": "payment", "event_time": at, "event_date": at.date(), "card_id": card,
        "merchant_id": "m1", "merchant_category": "travel", "amount": Decimal("12.50"), "currency": "EUR",
        "country": "FR", "channel": "online", "topic": "cards", "kafka_partition": 2, "kafka_offset": number,
    }  # fmt: skip


def test_all_that_is_known_is_said(lakehouse: LakehouseResource) -> None:
    others = [payment(1, 1), payment(2, 23.9), payment(3, 24), payment(4, -1), payment(5, 2, "another")]
    write(lakehouse, TRANSACTIONS, payment(0, 0), *others)
    write(lakehouse, DEDUPLICATED_TRANSACTIONS, {"event_id": "t0"}, {"event_id": "other"})
    score = {
        "score_id": "t0", "event_date": NOON.date(), "verdict": "alert", "score": 0.91234, "model_version": 3,
        "reasons": ["first words", "second words"], "marks": ["unknown card"], "shadow_score": 0.5, "shadow_version": 4,
        "received_at": NOON, "scored_at": NOON + timedelta(milliseconds=7),
    }  # fmt: skip
    write(lakehouse, FRAUD_SCORES, score)
    reports = [("no_fraud", 30), ("fraud", 5)]
    write(
        lakehouse, FRAUD_REPORTS,
        *({"transaction_id": "t0", "verdict": verdict, "source": "customer", "event_date": NOON.date(),
           "event_time": NOON + timedelta(hours=hours)} for verdict, hours in reports),
    )  # fmt: skip
    assert explain_payment(lakehouse, "t0") == [
        "t0: payment of 12.50 EUR at m1 (travel) in FR by online, card c1, device not known. It happened at "
        "2026-03-01 12:00:00 UTC; its record is cards/2/0.",
        "It was sent 2 times; the repeats are in silver.deduplicated_transactions.",
        "Score 0.9123 by version 3, 7 ms after Kafka had it: an alert.",
        "  Reason 1: first words.",
        "  Reason 2: second words.",
        "It was scored without all that could be known: unknown card.",
        "Version 4, on trial, gave it 0.5000.",
        "gold.fraud_alerts does not have it yet.",
        "Reported by customer at 2026-03-01 17:00:00 UTC as fraud.",
        "Reported by customer at 2026-03-02 18:00:00 UTC as no fraud, after all.",
        "The card's 24 hours before it: 2 transactions:",
        "  2026-03-01 11:00:00 UTC  payment of 12.50 EUR at m1 (travel) in FR by online",
        "  2026-02-28 12:06:00 UTC  payment of 12.50 EUR at m1 (travel) in FR by online",
    ]
    write(lakehouse, FRAUD_ALERTS, {"score_id": "t0"})
    assert not any("does not have it yet" in line for line in explain_payment(lakehouse, "t0"))


def test_a_hold_lasts_until_the_first_release_after_it(lakehouse: LakehouseResource) -> None:
    def find_hold() -> list[str]:
        return [line for line in explain_payment(lakehouse, "t0") if " its card " in line]

    write(lakehouse, TRANSACTIONS, payment(0, 0))
    assert find_hold() == []
    write(lakehouse, CARD_HOLDS, {"score_id": "t0", "card_id": "c1", "as_of": NOON})
    held = ["It holds its card since 2026-03-01 12:00:00 UTC."]
    assert find_hold() == held
    others = [("c1", -1, "before it"), ("another", 1, "of another card")]
    for card, hours, reason in others:
        released = {"card_id": card, "as_of": NOON + timedelta(hours=hours), "by": "ann", "reason": reason}
        write(lakehouse, CARD_RELEASES, released)
        assert find_hold() == held
    for hours, reason in ((5, "again"), (2, "the customer was asked")):
        released = {"card_id": "c1", "as_of": NOON + timedelta(hours=hours), "by": "bob", "reason": reason}
        write(lakehouse, CARD_RELEASES, released)
    assert find_hold() == [
        "It held its card from 2026-03-01 12:00:00 UTC until bob released it at 2026-03-01 14:00:00 UTC: the customer "
        "was asked."
    ]


def test_what_is_not_known_is_said_too(lakehouse: LakehouseResource) -> None:
    assert "have not run yet" in explain_payment(lakehouse, "t0")[0]
    write(lakehouse, TRANSACTIONS, payment(0, 0))
    said = explain_payment(lakehouse, "t9")
    assert "t9 is not in silver.transactions" in said[0]
    assert said[1:] == [
        "It has no score: it came before the group fraud began, or the check scored names it as missing.",
        "Nobody has reported it.",
    ]
    unscored = {"verdict": "unscored", "unscored_reason": "no_model", "received_at": NOON, "scored_at": NOON}
    write(lakehouse, FRAUD_SCORES, {"score_id": "t0", "event_date": NOON.date()} | unscored)
    said = explain_payment(lakehouse, "t0")
    assert said[1] == "It was looked at 0 ms after Kafka had it, and not scored: no_model."
    assert said[-1] == "The card's 24 hours before it: 0 transactions."


def test_text_of_a_record_neither_forges_lines_nor_steers_the_terminal(
    lakehouse: LakehouseResource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "m1\n\x1b[2J\u202eNobody has reported it. é書"
    write(lakehouse, TRANSACTIONS, payment(0, 0) | {"merchant_id": odd})
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", lakehouse.root_uri)
    load_settings.cache_clear()
    try:
        assert main(["explain", "--payment", "t0"]) == 0
    finally:
        load_settings.cache_clear()
    first, *others = capsys.readouterr().out.split("\n")
    assert r"m1\n\x1b[2J\u202eNobody has reported it. é書" in first
    assert "Nobody has reported it." in others
