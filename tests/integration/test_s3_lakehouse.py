"""A lakehouse in S3: streams, state, checkpoints, checks, and what is done to it while nobody streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from jobs.operations.backup import back_up, restore
from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_stream_groups, load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.integration.replayed_streams import build_events, prove_sound, read_two_hours
from tests.integration.s3_lakehouse import build_settings, set_environment, told
from tests.integration.streams_under_test import StreamsUnderTest
from tests.s3_server import BUCKET, S3Server, running_s3

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

NAME = "sessions"
(EVENTS,) = select_ingest(load_streams())
GROUPS = load_stream_groups()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(scope="module")
def settings_of_store(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("s3")
    return build_settings(home, f"s3a://{BUCKET}/{home.name}", server.options())


@pytest.fixture(scope="module")
def streams(spark: SparkSession, kafka: KafkaResource, settings_of_store: Settings) -> Iterator[StreamsUnderTest]:
    """`events` and `sessions` have read two hours."""
    settings = settings_of_store
    kafka.ensure_topic(settings.home.name, 1)
    with told(spark, settings):
        lakehouse = LakehouseResource.from_settings(settings)
        streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, settings.home.name)
        read_two_hours(streams, NAME)
        yield streams


@pytest.fixture(autouse=True)
def in_environment(settings_of_store: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    set_environment(monkeypatch, settings_of_store)
    yield
    load_settings.cache_clear()


def test_every_record_is_in_one_table_and_the_derived_one_equals_its_twin(
    streams: StreamsUnderTest, kafka: KafkaResource, settings_of_store: Settings
) -> None:
    lakehouse = LakehouseResource.from_settings(settings_of_store)
    audit = audit_stream(EVENTS, lakehouse, kafka)
    assert audit.passed, audit
    prove_sound(streams, NAME)
