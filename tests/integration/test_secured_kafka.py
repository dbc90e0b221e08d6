"""The whole pipeline over a real Kafka with TLS, log-ins and rights that are denied by default."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import BrokerRefusedError
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_snapshot import Relayed
from resources.kafka import KafkaResource
from resources.kafka_open_transactions import read_held_back
from resources.kafka_records import find_records
from resources.kafka_topics import read_retention
from resources.lakehouse import LakehouseResource
from tests.integration.scored_payments import ScoredPayments, make_payment, make_scorecard
from tests.integration.secured_platform import SecuredPlatform
from tests.integration.test_simulator import read_all
from tests.integration.test_watermarks import purchase
from tests.secured_broker import SecuredBroker, topic_rights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.long

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
RECORDS = [*(purchase(n, NOON, user_id=f"u{n}", revenue=150.0) for n in range(20)), b"no JSON"]
ACCOUNT = "headrace"


@pytest.fixture
def platform(secured: SecuredBroker, spark: SparkSession, tmp_path: Path) -> SecuredPlatform:
    """A platform that logs in by SCRAM and has no right yet."""
    account = f"{ACCOUNT}-{tmp_path.name}"
    return SecuredPlatform.make(secured, spark, tmp_path / "home", account, secured.add_account(account))


def check_whole(platform: SecuredPlatform) -> None:
    """What was sent is in the tables once, is published, and a second read by the ledger agrees."""
    assert platform.offsets() == list(range(len(RECORDS)))
    (events,) = (stream for stream in platform.streams() if isinstance(stream, KafkaStream))
    with platform.kafka() as kafka:
        audit = audit_stream(events, platform.lakehouse, kafka)
        assert not audit.breaches
        assert [
            offset for _, offset in find_records(kafka, platform.topic, [(0, 0, len(RECORDS))])
        ] == platform.offsets()
        assert kafka.beginning_offsets(platform.topic) == {0: 0}
        assert kafka.end_offsets(platform.topic) == {0: len(RECORDS)}
        assert read_retention(kafka, platform.topic) and not read_held_back(kafka, platform.topic)
    with platform.broker.administrator() as administrator:
        assert {json.loads(key)["user_id"] for _, key, _ in read_all(administrator, platform.published)} == {
            f"u{n}" for n in range(20)
        }


def test_the_pipeline_runs_by_a_password_with_the_rights_of_the_table_and_no_more(
    platform: SecuredPlatform, spark_home: Path
) -> None:
    platform.broker.grant(*platform.rights())
    platform.send(RECORDS)
    platform.drain()
    check_whole(platform)
    records = platform.session.read.format("kafka").options(**platform.build_context().kafka_options)
    plan = records.option("subscribe", platform.topic).load()._jdf.queryExecution().toString()
    assert platform.topic in plan
    secret = platform.options["sasl.password"]
    texts = [plan, *(word for process in _processes() for word in process.cmdline())]
    texts += [path.read_bytes().decode(errors="replace") for path in _files(platform.home, spark_home)]
    assert len(texts) > 50 and not any(secret in text for text in texts)


def _processes() -> list[psutil.Process]:
    """This process and all that it has started."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _files(*roots: Path) -> list[Path]:
    return [path for root in roots for path in root.rglob("*") if path.is_file()]


def test_the_pipeline_runs_by_a_certificate(secured: SecuredBroker, spark: SparkSession, tmp_path: Path) -> None:
    name = f"{ACCOUNT}-certificate"
    secured.certificates.issue(name)
    options = secured.options_of_certificate(name)
    platform = SecuredPlatform.make(secured, spark, tmp_path / "home", name, options)
    secured.grant(*platform.rights())
    platform.send(RECORDS)
    platform.drain()
    check_whole(platform)


def test_a_stream_without_a_right_stops_behind_its_commit_and_goes_on_once_it_is_granted(
    platform: SecuredPlatform,
) -> None:
    broker, seen = platform.broker, topic_rights(platform.account, platform.published, "DESCRIBE")
    broker.grant(*topic_rights(platform.account, platform.topic, "DESCRIBE", "DESCRIBE_CONFIGS"), *seen)
    platform.send(RECORDS)
    with pytest.raises(BrokerRefusedError, match=f"refuses Read on topic {platform.topic} to ") as refused:
        platform.drain()
    assert "\n" not in str(refused.value) and platform.offsets() == []
    broker.grant(*topic_rights(platform.account, platform.topic, "READ"))
    with pytest.raises(
        BrokerRefusedError, match=r"refuses IdempotentWrite on cluster to .*, nor Write on a topic"
    ) as refused:
        platform.drain()
    assert "\n" not in str(refused.value) and platform.offsets() == list(range(len(RECORDS)))
    broker.grant(*platform.rights())
    platform.drain()
    check_whole(platform)


def test_a_relay_runs_with_the_rights_of_the_table_and_names_each_that_is_missing(
    secured: SecuredBroker, spark: SparkSession, tmp_path: Path
) -> None:
    account = f"relay-{tmp_path.name}"
    topics = payments, scores, alerts = tuple(f"{account}-{name}" for name in ("payments", "scores", "alerts"))
    for topic in topics:
        secured.ensure_topic(topic)
    settings = secured.settings(tmp_path / "home", secured.add_account(account))
    lakehouse, card = LakehouseResource.from_settings(settings), make_scorecard(1)

    def grant(topic: str, *operations: str) -> None:
        secured.grant(*topic_rights(account, topic, *operations))

    with KafkaResource.from_settings(settings) as kafka, secured.administrator() as administrator:

        def build() -> ScoredPayments:
            names = iter(topics)
            return ScoredPayments.build(spark, kafka, lakehouse, settings, lambda _partitions: next(names))

        for topic in topics:
            with pytest.raises(BrokerRefusedError, match=f"refuses Describe on topic {topic} to "):
                build()
            grant(topic, "DESCRIBE")
        # The shop's side, and who looks at what comes, are the administrator.
        scored = dataclasses.replace(build(), kafka=administrator)
        scored.add_model(card)
        scored.promote(card)
        sent: list[dict[str, Any]] = []
        for topic, operation, says in (
            (payments, "READ", f"Read on topic {payments} to "),
            (scores, "WRITE", "IdempotentWrite on cluster to .*, nor Write on a topic"),
            (alerts, "WRITE", f"Write on topic {alerts} to "),
        ):
            group = RelayGroup(spark, [scored.relay], scored.context)
            with pytest.raises(BrokerRefusedError, match=f"refuses {says}") as refused:
                try:
                    group.start()
                    scored.wait(group, partial(scored.has_begun, group))
                    sent += (new := [make_payment(number) for number in range(len(sent), len(sent) + 6)])
                    scored.send(new)
                    scored.wait(group, lambda: False)
                finally:
                    group.stop(30)
            assert "\n" not in str(refused.value)
            grant(topic, operation)
        fetch = scored.context.ingest[scored.relay.name].fetch_relayed
        group = scored.start()
        try:
            found = scored.wait_for_scores(group, len(sent))
            assert {each["score_id"] for each in found} == {each["transaction_id"] for each in sent}
            verdicts = {each["score_id"] for each in found if each["verdict"] == "alert"}
            assert verdicts
            # The sink does not write both topics at once: scores may be there before their alerts.
            scored.wait(group, lambda: {each["score_id"] for each in scored.alerts()} >= verdicts)
            assert {each["score_id"] for each in scored.alerts()} == verdicts
        finally:
            group.stop(30)
        assert fetch is not None and fetch({0: 0}) is None, "without Read on the scores no lag is known"
        grant(scores, "READ")
        assert fetch({0: 0}) == Relayed(len(sent), 0)
