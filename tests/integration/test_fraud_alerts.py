"""Alerts in their table, once each: with payments sent twice, scored twice, and forgotten users' rows removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.parity import build_parity_checks
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streams import fraud_alerts
from platform_assets.topics.fraud_scores import TOPIC
from resources.duckdb import DuckDBResource
from tests.bounded_run import run_to_end
from tests.integration.scored_payments import ScoredPayments, make_payment, make_scorecard

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings


def test_alerts_are_in_their_table_once(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    scored, card = ScoredPayments.build(spark, kafka, lakehouse, settings, topic), make_scorecard(1)
    scored.add_model(card)
    scored.promote(card)
    ingest = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=scored.relay.outputs[0]))
    context = build_stream_context(settings, kafka, lakehouse, [ingest])
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
        run_to_end(QueryGroup(spark, [ingest, fraud_alerts.STREAM], context))
    found = scored.scores()
    alerts = {each["score_id"]: each for each in found if each["verdict"] == "alert"}

    accepted, quarantined, deduplicated = (len(lakehouse.delta_table(t.name).to_pyarrow_table()) for t in TOPIC.tables)
    assert (accepted, quarantined, deduplicated) == (sent, 0, len(found) - sent)
    assert len(found) > sent
    rows = lakehouse.delta_table("gold.fraud_alerts").to_pyarrow_table().to_pylist()
    assert {row["score_id"]: row["reasons"] for row in rows} == {n: a["reasons"] for n, a in alerts.items()}
    assert len(rows) == len(alerts)
    assert {(r["score_id"], r["score"], r["model_version"]) for r in rows} == {
        (a["score_id"], a["score"], 1) for a in alerts.values()
    }
    (check,) = build_parity_checks([fraud_alerts.STREAM], "duckdb")
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert verdict.passed, verdict.description
    compared = verdict.metadata["compared_rows"].value
    assert isinstance(compared, int)
    assert 0 < compared <= len(alerts)
