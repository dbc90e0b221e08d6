"""`headrace simulate --encoding`: a topic of a registry reads what the simulator wrote; nothing is lost or doubled."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from jobs.cli.__main__ import main
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_spec import RegistryValues
from platform_assets.topics.events import TOPIC
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from resources.embedded.broker import BrokerState


def read_summary(shown: str) -> dict[str, int]:
    """The counts of the command's summary, by name."""
    return {name: int(count.replace(",", "")) for name, count in re.findall(r"([\w.]+) +([\d,]+)\s*\n", shown)}


@pytest.mark.parametrize("encoding", ["avro", "protobuf", "json-schema"])
def test_what_the_simulator_writes_is_read_by_a_topic_of_a_registry(
    spark: SparkSession,
    broker: BrokerState,
    kafka: KafkaResource,
    schema_registry: SchemaRegistry,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
    encoding: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fresh_settings: None,
) -> None:
    name = topic(2)
    (url,) = schema_registry.access.urls
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_SCHEMA_REGISTRY_URL", url)
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    options = ["--hours", "2", "--count", "3000", "--seed", "4", "--malformed", "0.05", "--duplicates", "0.02"]
    assert main(["simulate", "--kafka-topic", name, "--encoding", encoding, *options]) == 0
    said = read_summary(capsys.readouterr().err)
    malformed = sum(count for reason, count in said.items() if reason.startswith("malformed."))
    assert said["records"] > 2000 and malformed > 50 and 0 < said["not_framed"] <= malformed
    newest = schema_registry.newest(f"{name}-value")
    assert newest is not None and newest.version == 1

    stream = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=name, values=RegistryValues()), 0.0)
    reading = settings.model_copy(update={"schema_registry_url": url})
    context = build_stream_context(reading, kafka, lakehouse, [stream])
    run_to_end(QueryGroup(spark, [stream], context))
    streams = StreamsUnderTest(spark, kafka, context)
    counts = [len(streams.rows(table.name, "select kafka_offset from t")) for table in stream.tables]
    assert counts == [said["valid"], malformed, said["duplicates"]]
    audit = audit_stream(stream, lakehouse, kafka)
    assert audit.breaches == () and audit.totals["rows_in"] == said["records"]
