"""A stream whose topic is changed: it refuses before anything is planned, and goes on when the topic is set back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from jobs.supervision.stream_context import build_stream_context
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests import access_log
from tests.bounded_run import run_to_end

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime.now(UTC)
TABLE = access_log.TOPIC.tables[0].name


def test_another_topic_is_refused_and_the_old_one_goes_on(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    lakehouse: LakehouseResource,
    settings: Settings,
) -> None:
    names = topic(1), topic(1)

    def send(name: str, first: int) -> None:
        producer = kafka.producer()
        for n in range(first, first + 10):
            producer.produce(name, f'10.0.0.{n} - - [{NOW:%d/%b/%Y:%H:%M:%S} +0000] "GET /{n} HTTP/1.1" 200 12')
        assert producer.flush(30) == 0

    def run(name: str) -> StreamContext:
        stream = KafkaStream(dataclasses.replace(access_log.TOPIC, kafka_topic=name))
        context = build_stream_context(settings, kafka, lakehouse, [stream])
        run_to_end(QueryGroup(spark, [stream], context))
        return context

    send(names[0], 0)
    checkpoint = Checkpoint.of(run(names[0]), TABLE)
    planned = checkpoint.list_planned_batches()
    send(names[1], 0)
    with pytest.raises(CheckpointMismatchError, match=rf"read the topic {names[0]} until now.* read {names[1]}\."):
        run(names[1])
    assert checkpoint.list_planned_batches() == planned

    # What older code left: a batch over the other topic, planned and not done.
    plan = checkpoint.read_text(f"offsets/{planned[-1]}")
    assert plan is not None and names[0] in plan
    checkpoint.write_text(f"offsets/{planned[-1] + 1}", plan.replace(names[0], names[1]))
    send(names[0], 10)
    run(names[0])
    rows = lakehouse.delta_table(TABLE).to_pyarrow_table(columns=["topic", "kafka_offset"]).to_pylist()
    assert sorted((row["topic"], row["kafka_offset"]) for row in rows) == [(names[0], n) for n in range(20)]
