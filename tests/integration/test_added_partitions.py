"""Kafka partitions that are added to the topic while the stream runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from confluent_kafka.admin import NewPartitions

from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases
from tests.integration.test_watermarks import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

(EVENTS,) = select_ingest(load_streams())


def test_their_records_are_read_from_the_first_on_without_a_restart(
    spark: SparkSession,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
) -> None:
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    streams.send(build_purchases(0))
    group = QueryGroup(spark, [EVENTS], streams.context)
    group.start()
    try:
        wait_until(lambda: len(streams.rows("silver.events")) == 20, group)
        (added,) = kafka.admin().create_partitions([NewPartitions(streams.topic, 3)]).values()
        added.result(30)
        for partition in range(3):
            streams.send(build_purchases(1 + partition), partition=partition)
        wait_until(lambda: len(streams.rows("silver.events")) == 80, group)
    finally:
        group.stop(30)
    streams.drain("events")
    places = sorted((row["kafka_partition"], row["kafka_offset"]) for row in streams.rows("silver.events"))
    assert places == [(p, offset) for p, length in ((0, 40), (1, 20), (2, 20)) for offset in range(length)]
    assert audit_stream(EVENTS, lakehouse, kafka).breaches == ()
