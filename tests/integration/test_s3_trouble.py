"""Streams over an object store in trouble: it asks for patience, and loses the answers to commits that it has made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import StoreUnavailableError
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
from tests.integration.replayed_streams import build_events, late, prove_sound
from tests.integration.s3_lakehouse import build_settings, set_environment, told
from tests.integration.streams_under_test import StreamsUnderTest
from tests.s3_faults import Trouble, TroubledStore, troubled
from tests.s3_server import BUCKET, running_s3

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

NAMES = ("sessions", "revenue_by_category")
(EVENTS,) = select_ingest(load_streams())


@pytest.fixture
def store() -> Iterator[TroubledStore]:
    with running_s3() as server, troubled(server) as found:
        yield found


@pytest.mark.release
def test_a_store_in_trouble_loses_and_doubles_nothing(
    spark: SparkSession,
    kafka: KafkaResource,
    store: TroubledStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = build_settings(tmp_path, f"s3://{BUCKET}/{tmp_path.name}", store.options)
    set_environment(monkeypatch, settings)
    ensure_topic(kafka, tmp_path.name, 1)
    parts = [build_events(range(60)), [*build_events(range(60, 100)), late(4), late(5)]]
    with told(spark, settings):
        lakehouse = LakehouseResource.from_settings(settings)
        streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, tmp_path.name)
        for number, part in enumerate(parts):
            store.begin(Trouble(refuse_each=29, lose_commits=True) if number else Trouble())
            streams.send(part)
            for _ in range(20):
                try:
                    streams.drain("events", *NAMES)
                except StoreUnavailableError:  # the supervisor starts the group anew
                    continue
                break
            else:
                pytest.fail("the streams never come to an end")
        seen = store.begin(Trouble())
        streams.drain("events", *NAMES)
        assert audit_stream(EVENTS, lakehouse, kafka).breaches == ()
        for name in NAMES:
            prove_sound(streams, name)
        sent = {event for part in parts for event in part}
        assert len(streams.rows("silver.events")) == len(sent)
        late_rows = streams.rows("platform.late_events")
        assert len({(row["query"], row["kafka_offset"]) for row in late_rows}) == len(late_rows) > 0
    load_settings.cache_clear()
    assert seen["lost"] > 10 and seen["refused"] > 20, seen
