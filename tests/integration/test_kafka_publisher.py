"""What `high_value_users` writes is also in its topic: keys, values, headers; after a replay and a repair too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from platform_assets.publishing.table_publisher import TablePublisher
from platform_assets.streaming.stream_spec import Stream, TableStream, select_derived, select_ingest
from platform_assets.streams import load_streams
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_watermarks import purchase
from tests.unit.publishing.published_table import read_committed

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture
def streams(spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings,
            topic: Callable[..., str]) -> StreamsUnderTest:  # fmt: skip
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))


def drain_into(streams: StreamsUnderTest, topic: str) -> None:
    """`events` and `high_value_users` to their end, the second published to this topic."""
    from platform_assets.streaming.engine.query_group import QueryGroup

    (events,) = select_ingest(load_streams())
    specs: list[Stream] = [events, replace_topic(topic)]
    context = dataclasses.replace(streams.context, publish_topics=frozenset({topic}))
    run_to_end(QueryGroup(streams.session, specs, context))


def read_topic(kafka: KafkaResource, topic: str) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]]:
    """(key, value, headers) of every record."""
    consumer = Consumer({**kafka.client_config(), "group.id": "test", "enable.auto.commit": False})
    found = []
    for partition, end in kafka.end_offsets(topic).items():
        consumer.assign([TopicPartition(topic, partition, 0)])
        while end and consumer.position([TopicPartition(topic, partition)])[0].offset < end:
            (record,) = consumer.consume(1, 30)
            key, value, headers = record.key(), record.value(), dict(record.headers() or [])
            assert isinstance(key, bytes) and isinstance(value, bytes)
            texts = {name: text.decode() for name, text in headers.items() if isinstance(text, bytes)}
            found.append((json.loads(key), json.loads(value), texts))
    consumer.close()
    return found


def replace_topic(topic: str) -> TableStream:
    """The stream, published to another topic."""
    (users,) = (stream for stream in select_derived(load_streams()) if stream.name == "high_value_users")
    return dataclasses.replace(users, publish_topic=topic)


def test_rows_are_published_with_their_key_and_origin_and_again_after_a_replay(
    streams: StreamsUnderTest, kafka: KafkaResource, topic: Callable[..., str]
) -> None:
    out = topic(2)
    streams.send([purchase(1, NOON, revenue=150.0), purchase(2, NOON, user_id="poor", revenue=5.0)])
    drain_into(streams, out)
    first = read_topic(kafka, out)
    table = streams.rows("gold.high_value_users", "select * from t order by window_start")
    assert len(first) == len(table) == 5
    by_start = sorted(first, key=lambda record: record[0]["window_start"])
    for (key, value, headers), row in zip(by_start, table, strict=True):
        assert set(key) == {"window_start", "window_end", "user_id", "currency"}
        assert datetime.fromisoformat(key["window_start"]) == row["window_start"]
        assert {name: value[name] for name in ("user_id", "total_spent", "purchase_count", "products_purchased")} == {
            name: row[name] for name in ("user_id", "total_spent", "purchase_count", "products_purchased")
        }
        assert (headers["query"], headers["batch"]) == ("high_value_users", "0")
        assert int(headers["version"]) == 1

    # The other way of publishing writes the same bytes into the same partitions.
    lakehouse, engine = LakehouseResource(root=streams.context.lakehouse_root), DuckDBResource()
    publisher = TablePublisher(replace_topic(other := topic(2)), kafka, lakehouse, engine, None, 2)
    while publisher.advance():
        pass
    ours, sparks = (
        sorted((record.partition, record.key, record.value or "") for record in read_committed(kafka, name))
        for name in (other, out)
    )
    assert ours == sparks

    # The state is as if Spark had died before it noted the first batch.
    checkpoint = Path(streams.context.checkpoint_uri("gold.high_value_users"))
    shutil.rmtree(checkpoint / "commits")
    for later in (checkpoint / "offsets").iterdir():
        if later.name not in ("0", ".0.crc"):
            later.unlink()
    drain_into(streams, out)
    assert sorted(map(str, read_topic(kafka, out))) == sorted(map(str, [*first, *first]))
    assert len(streams.rows("gold.high_value_users")) == 5


@pytest.mark.long
def test_a_repair_is_published_too(streams: StreamsUnderTest, kafka: KafkaResource, topic: Callable[..., str]) -> None:
    out = topic(1)
    streams.send([purchase(1, NOON, revenue=60.0), purchase(2, NOON + timedelta(hours=1))])
    drain_into(streams, out)
    assert read_topic(kafka, out) == []
    streams.send([purchase(3, NOON, revenue=60.0)])
    drain_into(streams, out)
    found = read_topic(kafka, out)
    assert [(value["total_spent"], headers["batch"]) for _, value, headers in found] == [(120.0, "repair")] * 5
