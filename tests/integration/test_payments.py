"""Card payments from the simulator to the tables: each record is where the simulator says, and no cent is lost."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from jobs.cli import simulate_command
from jobs.definitions.simulate_shop import simulate_shop
from jobs.simulator.card_payments import CardPayments
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.parity import build_parity_checks
from platform_assets.errors import UsageError
from platform_assets.fraud.streams_progress import find_reached, open_checkpoints
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.moments import at_micros
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streams import card_days, spend_by_card, velocity
from platform_assets.topics.transactions import TOPIC
from resources.duckdb import DuckDBResource
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.test_simulator import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Two hours before midnight: a day ends within the history, and its rows are final.
START, HOUR = 1_750_024_800_000_000, 3_600_000_000
DERIVED = (card_days.STREAM, spend_by_card.STREAM, velocity.STREAM)


def rows_of(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    return list(lakehouse.delta_table(name).to_pyarrow_table().to_pylist())


def test_each_record_is_where_the_simulator_says(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    name = topic()
    profile = PaymentProfile(customers=300, fraud=0.02, duplicates=0.05, oversized=0.0005).with_malformed(0.05)
    payments = CardPayments(profile, 5)
    records = list(payments.history(START, START + 3 * HOUR, 0.5))
    send_records(iter(records), kafka.producer(**PRODUCER_OPTIONS), name).raise_if_failed()
    ingest = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=name))
    context = build_stream_context(settings, kafka, lakehouse, [ingest])
    run_to_end(QueryGroup(spark, [ingest, *DERIVED], context))

    accepted, quarantined, deduplicated = (rows_of(lakehouse, table.name) for table in TOPIC.tables)
    tally = payments.tally
    assert Counter(row["reason"] for row in quarantined) == tally.malformed
    assert set(tally.malformed) >= {"bad_value", "negative_amount", "unknown_event_type", "wrong_type"}
    assert (len(accepted), len(deduplicated)) == (tally.valid, tally.duplicates)
    assert all(row["is_same_content"] for row in deduplicated)

    refused = {row["value"] for row in quarantined}
    sent = {value for _, _, value in records if value is not None and value not in refused}
    found = [json.loads(value, parse_float=Decimal) for value in sent]
    names = ("transaction_id", "card_id", "customer_id", "kind", "amount", "currency", "country", "is_fraud")
    assert {tuple(row[n] for n in names) for row in accepted} == {tuple(each[n] for n in names) for each in found}
    for check in build_parity_checks(DERIVED, "duckdb"):
        resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)}
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        assert verdict.passed, verdict.description
        assert verdict.metadata["compared_rows"].value
    fast = rows_of(lakehouse, velocity.CARD_VELOCITY.name)
    bursts = {row["card_id"] for row in accepted if row["is_fraud"]}
    assert bursts
    assert bursts & {row["card_id"] for row in fast if row["countries"] >= 4}

    # The history is read whole, so the streams are as far as time is: at its newest event, by Kafka's milliseconds.
    reached = find_reached(open_checkpoints(context))
    frontiers = [
        CommitInfo.parse(each.get("userMetadata")) for each in lakehouse.delta_table(TOPIC.tables[0].name).history()
    ]
    newest = next(each.frontier_micros for each in frontiers if each is not None and each.frontier_micros is not None)
    assert reached is not None
    assert max(row["event_time"] for row in accepted) - timedelta(milliseconds=1) < reached <= at_micros(newest)


def simulate(arguments: list[str], kafka: KafkaResource, home: Path) -> None:
    options = simulate_command.simulate.make_context("simulate", arguments).params
    simulate_command.deliver(options, Settings(kafka_bootstrap_servers=kafka.servers(), home=home))


def test_command_sends_card_payments(kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> None:
    name = topic()
    arguments = ["--topic", "transactions", "--kafka-topic", name, "--seed", "1", "--malformed", "0", "--quiet"]
    simulate([*arguments, "--rate", "max", "--count", "1500", "--habit", "customers=50"], kafka, tmp_path)
    found = read_all(kafka, name)
    values = [json.loads(value or b"") for _, _, value in found]
    assert len(found) == 1500
    assert {each["kind"] for each in values} == {"payment", "refund", "reversal"}
    assert {key.decode() for _, key, _ in found} == {each["card_id"] for each in values}
    assert len({each["customer_id"] for each in values}) <= 50


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--users", "5"], "--users is for the simulated shop"),
        (["--malformed", "no_match=0.1"], "bad_value"),
        (["--replay", "clicks.csv"], "clicks.csv is not a file"),
    ],
)
def test_what_is_not_for_card_payments_is_refused(
    kafka: KafkaResource, tmp_path: Path, arguments: list[str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        simulate(["--topic", "transactions", *arguments], kafka, tmp_path)


def test_job_sends_card_payments(
    broker: BrokerState, kafka: KafkaResource, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    config = {"rate": 0, "count": 700, "topic": "transactions", "kafka_topic": name, "habits": {"customers": 40}}
    result = simulate_shop.execute_in_process(
        resources={"kafka": KafkaResource(bootstrap_servers=broker.bootstrap_servers)},
        run_config=dg.RunConfig(ops={"send_shop_events": {"config": config}}),
    )
    assert result.success
    output = next(event for event in result.all_events if event.is_successful_output)
    metadata = {name: entry.value for name, entry in output.step_output_data.metadata.items()}
    assert metadata["kafka/acknowledged"] == metadata["transactions/records"] == len(read_all(kafka, name)) == 700
