"""Reports of fraud from the simulator to their table: each finds its transaction; the live command sends them too."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from jobs.definitions.simulate_shop import simulate_shop
from jobs.simulator.card_payments import CardPayments
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.simulator.simulated_topics import find_simulation
from jobs.supervision.stream_context import build_stream_context
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.topics import fraud_reports, transactions
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.test_payments import simulate
from tests.integration.test_simulator import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START, HOUR = 1_750_000_000_000_000, 3_600_000_000
# The query of docs/transactions.md.
NEWEST_VERDICTS = """
with newest as (
  select transaction_id, verdict, event_time, row_number() over (
    partition by transaction_id order by event_time desc, verdict
  ) as place from silver_fraud_reports
)
select t.transaction_id, t.card_id, t.is_fraud, n.verdict, n.event_time - t.event_time as known_after
from silver_transactions t left join newest n on n.transaction_id = t.transaction_id and n.place = 1
"""


def test_each_report_finds_its_transaction(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    paid, reported = topic(), topic()
    profile = PaymentProfile(customers=300, fraud=0.05, report_hours=0.2, false_reports=0.02).with_malformed(0.05)
    payments = CardPayments(profile, 5)
    payments.accompany(reported)
    records = payments.history(START, START + 3 * HOUR, 0.5)
    report = send_records(records, kafka.producer(**PRODUCER_OPTIONS), paid)
    report.raise_if_failed()
    counts = payments.counts
    assert report.acknowledged == counts["records"] + counts["fraud_reports"]
    topics = (
        dataclasses.replace(transactions.TOPIC, kafka_topic=paid),
        dataclasses.replace(fraud_reports.TOPIC, kafka_topic=reported),
    )
    streams = [KafkaStream(each) for each in topics]
    run_to_end(QueryGroup(spark, streams, build_stream_context(settings, kafka, lakehouse, streams)))

    names = (transactions.TRANSACTIONS.name, *(table.name for table in fraud_reports.TOPIC.tables))
    tables = {name: lakehouse.delta_table(name).to_pyarrow_table() for name in names}
    assert [tables[name].num_rows for name in names] == [counts["valid"], counts["fraud_reports"], 0, 0]
    known = {row["transaction_id"]: row for row in tables[transactions.TRANSACTIONS.name].to_pylist()}
    for row in tables[fraud_reports.FRAUD_REPORTS.name].to_pylist():
        payment = known[row["transaction_id"]]
        assert (row["card_id"], row["customer_id"]) == (payment["card_id"], payment["customer_id"])
        assert row["event_time"] > payment["event_time"]

    with DuckDBResource(memory_mib=256).connected() as session:
        for name, table in tables.items():
            session.register(name.replace(".", "_"), table)
        found = session.execute(NEWEST_VERDICTS).fetchall()
    assert len(found) == counts["valid"]
    verdicts = Counter((is_fraud, verdict) for _, _, is_fraud, verdict, _ in found)
    assert verdicts[True, "fraud"] > 50 and verdicts[False, "no_fraud"] > 10
    assert verdicts[True, None] and verdicts[True, "no_fraud"] == 0


def test_live_reports_come_into_their_topic(kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> None:
    name = topic()
    ensure_topic(kafka, f"{name}-fraud-reports", 1)
    habits = {"customers": 50, "fraud": 0.3, "fraud_seconds": 0.01, "report_hours": 0.001, "refund_abuse": 0}
    options = [text for each in habits.items() for text in ("--habit", f"{each[0]}={each[1]}")]
    arguments = ["--topic", "transactions", "--kafka-topic", name, "--malformed", "0", "--rate", "300", "--quiet"]
    simulate([*arguments, "--duration", "12", "--seed", "2", *options], kafka, tmp_path)
    payments = {each["transaction_id"]: each for each in read_values(kafka, name)}
    reports = read_values(kafka, f"{name}-fraud-reports")
    assert len(reports) > 20 and len(payments) > 500  # as many as a busy machine sends in this time
    assert {each["transaction_id"] for each in reports} <= payments.keys()


def test_a_broker_without_the_second_topic_gets_the_payments_alone(
    kafka: KafkaResource, topic: Callable[..., str]
) -> None:
    client, said = KafkaResource(bootstrap_servers=kafka.servers()), list[str]()
    assert find_simulation("transactions").find_companion(client, topic(), 1, said.append) == ""
    assert len(said) == 1 and "-fraud-reports does not exist" in said[0]


def read_values(kafka: KafkaResource, name: str) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, _, value in read_all(kafka, name)]


def test_job_counts_the_reports(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    name = topic()
    ensure_topic(kafka, f"{name}-fraud-reports", 1)
    habits = {"customers": 40, "fraud": 0.3, "fraud_seconds": 0.01, "report_hours": 0.001}
    config = {"hours": 0.5, "rate": 2, "topic": "transactions", "kafka_topic": name, "habits": habits}
    result = simulate_shop.execute_in_process(
        resources={"kafka": KafkaResource(bootstrap_servers=kafka.servers())},
        run_config=dg.RunConfig(ops={"send_shop_events": {"config": config}}),
    )
    output = next(event for event in result.all_events if event.is_successful_output)
    metadata = {name: entry.value for name, entry in output.step_output_data.metadata.items()}
    reports = len(read_all(kafka, f"{name}-fraud-reports"))
    assert metadata["transactions/fraud_reports"] == reports > 0
    assert metadata["kafka/acknowledged"] == reports + len(read_all(kafka, name))
