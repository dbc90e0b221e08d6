"""Alerts in their table, once each: with payments sent twice, scored twice, and forgotten users' rows removed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from jobs.operations.card_holds import release_card
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.parity import build_parity_checks
from platform_assets.errors import UsageError
from platform_assets.fraud.held_cards import list_held
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streams import card_holds, fraud_alerts
from platform_assets.streams.card_holds import HOLDS_TOPIC
from platform_assets.topics.fraud_scores import TOPIC
from resources.duckdb import DuckDBResource
from tests.bounded_run import run_to_end
from tests.integration.scored_payments import ScoredPayments, make_payment, make_scorecard
from tests.integration.test_simulator import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings


STREAMS = (fraud_alerts.STREAM, card_holds.STREAM)
HOLD_SCORE = 0.9


def test_alerts_are_in_their_table_once(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    card = make_scorecard(1)
    scored = ScoredPayments.build(spark, kafka, lakehouse, settings, topic, hold_score=HOLD_SCORE)
    scored.add_model(card)
    scored.promote(card)
    ingest = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=scored.relay.outputs[0]))
    context = build_stream_context(settings, kafka, lakehouse, [ingest, *STREAMS])
    sent = 0
    # Each stop abandons a batch, whose records are scored once more at the next start.
    for _ in range(2):
        group = scored.start()
        try:
            scored.send([make_payment(number) for number in (*range(sent, sent + 30), sent)])
            sent += 30
            scored.wait_for_scores(group, sent)
        finally:
            group.stop(30)
        # Twice: how far the table is complete is said by the batch after.
        run_to_end(QueryGroup(spark, [ingest, *STREAMS], context))
    found = scored.scores()
    alerts = {each["score_id"]: each for each in found if each["verdict"] == "alert"}

    accepted, quarantined, deduplicated = (len(lakehouse.delta_table(t.name).to_pyarrow_table()) for t in TOPIC.tables)
    assert (accepted, quarantined, deduplicated) == (sent, 0, len(found) - sent)
    assert len(found) > sent
    repeats = lakehouse.delta_table(TOPIC.tables[2].name).to_pyarrow_table()
    assert set(repeats["is_same_content"].to_pylist()) == {True}, "of one transaction, though scored at another moment"
    rows = lakehouse.delta_table("gold.fraud_alerts").to_pyarrow_table().to_pylist()
    assert {row["score_id"]: row["reasons"] for row in rows} == {n: a["reasons"] for n, a in alerts.items()}
    assert len(rows) == len(alerts)
    assert {(r["score_id"], r["score"], r["model_version"]) for r in rows} == {
        (a["score_id"], a["score"], 1) for a in alerts.values()
    }
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)}
    for check in build_parity_checks(STREAMS, "duckdb"):
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        assert verdict.passed, verdict.description
        compared = verdict.metadata["compared_rows"].value
        assert isinstance(compared, int)
        assert 0 < compared <= len(alerts)

    holding = [each for each in alerts.values() if each["score"] >= HOLD_SCORE]
    assert 0 < len(holding) < len(alerts)
    assert {each["score_id"] for each in holding} == {
        each["score_id"] for each in alerts.values() if each["holds_card"]
    }
    held = {each.card_id for each in list_held(lakehouse)}
    assert held == {each["card_id"] for each in holding}
    over = release_card(lakehouse, kafka, min(held), "a test", "it was the customer")
    assert over is not None and over.card_id == min(held)
    assert {each.card_id for each in list_held(lakehouse)} == held - {over.card_id}
    assert release_card(lakehouse, kafka, over.card_id, "a test", "once more") is None
    with pytest.raises(UsageError, match="is not held"):
        release_card(lakehouse, kafka, "a card of nobody", "a test", "once more")
    told: dict[str, str] = {}
    for _, key, value in read_all(kafka, HOLDS_TOPIC):
        # Other tests publish there too.
        if (card_id := json.loads(key)["card_id"]) in held:
            told[card_id] = json.loads(value or b"")["state"]
    assert told.pop(over.card_id) == "released"
    assert told == dict.fromkeys(held - {over.card_id}, "held")
