"""Readings of sensors from the simulator, or a recording, to the tables: each record is where its sender says."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from jobs.cli import simulate_command
from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.simulator.telemetry import Telemetry
from jobs.simulator.telemetry_profile import TelemetryProfile
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.parity import build_parity_checks
from platform_assets.errors import UsageError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streams import telemetry_statistics
from platform_assets.topics.telemetry import TOPIC
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.test_simulator import read_all
from tests.unit.test_recorded_telemetry import find_recording

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START, HOUR = 1_750_024_800_000_000, 3_600_000_000


def rows_of(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    return list(lakehouse.delta_table(name).to_pyarrow_table().to_pylist())


@pytest.mark.long
def test_each_record_is_where_the_simulator_says(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    name = topic()
    profile = TelemetryProfile(sensors=12, patients=3, duplicates=0.05, oversized=0.0005).with_malformed(0.05)
    telemetry = Telemetry(profile, 5)
    records = list(telemetry.history(START, START + 3 * HOUR, 0.6))
    send_records(iter(records), kafka.producer(**PRODUCER_OPTIONS), name).raise_if_failed()
    ingest = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=name))
    context = build_stream_context(settings, kafka, lakehouse, [ingest])
    run_to_end(QueryGroup(spark, [ingest, telemetry_statistics.STREAM], context))

    accepted, quarantined, deduplicated = (rows_of(lakehouse, table.name) for table in TOPIC.tables)
    tally = telemetry.tally
    assert Counter(row["reason"] for row in quarantined) == tally.malformed
    assert set(tally.malformed) >= {"bad_value", "unknown_unit", "unknown_event_type", "wrong_type", "bad_timestamp"}
    assert (len(accepted), len(deduplicated)) == (tally.valid, tally.duplicates)
    refused = {row["value"] for row in quarantined}
    sent = [json.loads(value) for value in {v for _, _, v in records if v is not None and v not in refused}]
    names = ("sensor", "kind", "value", "unit", "place", "quality")
    assert Counter(tuple(row[n] for n in names) for row in accepted) == Counter(
        tuple(each[n] for n in names) for each in sent
    )
    (check,) = build_parity_checks([telemetry_statistics.STREAM], "duckdb")
    verdict = check(
        dg.build_asset_check_context(resources={"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)})
    )
    assert isinstance(verdict, dg.AssetCheckResult)
    assert verdict.passed, verdict.description
    assert verdict.metadata["compared_rows"].value


def simulate(arguments: list[str], kafka: KafkaResource, home: Path) -> None:
    options = simulate_command.simulate.make_context("simulate", ["--topic", "telemetry", *arguments]).params
    simulate_command.deliver(options, Settings(kafka_bootstrap_servers=kafka.servers(), home=home))


def test_command_sends_readings_and_a_recording_of_them(
    kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic()
    to_topic = ["--kafka-topic", name, "--quiet"]
    simulate([*to_topic, "--seed", "1", "--rate", "max", "--count", "700", "--habit", "patients=2"], kafka, tmp_path)
    fields = ["--map", "Time=timestamp", "--map", "Water flow [l/s]=value", "--set", "sensor=branch"]
    unit = ["--set", "kind=water_flow", "--set", "unit=L/s"]
    simulate([*to_topic, "--replay", str(find_recording()), *fields, *unit], kafka, tmp_path)
    found = read_all(kafka, name)
    recorded = [json.loads(value or b"") for _, key, value in found if key == b"branch"]
    assert (len(found), len(recorded)) == (700 + 1268, 1268)
    assert set(recorded[0]) == {"sensor", "kind", "timestamp", "value", "unit"}
    assert all(isinstance(each["value"], float) for each in recorded)
    with pytest.raises(UsageError, match=r"no field 'flow'\. Its fields are sensor, kind"):
        simulate([*to_topic, "--replay", str(find_recording()), "--map", "Time=flow"], kafka, tmp_path)
