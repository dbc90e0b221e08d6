"""The check `time_to_loss` on a real topic: records of an hour ago, a retention of two hours."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from platform_assets.checks.time_to_loss import find_backlogs, time_to_loss
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic, read_retention, read_retention_bytes

AGE = timedelta(hours=1)
RETENTION = timedelta(hours=2)


@pytest.fixture
def topic_of_an_hour_ago(kafka: KafkaResource) -> str:
    name = f"aging-{uuid.uuid4().hex[:8]}"
    milliseconds = str(RETENTION // timedelta(milliseconds=1))
    ensure_topic(kafka, name, 2, {"retention.ms": milliseconds, "retention.bytes": "1000000"})
    producer, written = kafka.producer(), datetime.now(UTC) - AGE
    for number in range(10):
        producer.produce(name, value=b"x", partition=0, timestamp=int(written.timestamp() * 1000) + number)
    assert producer.flush(30) == 0
    return name


def test_what_is_unread_is_lost_when_retention_passes_it(kafka: KafkaResource, topic_of_an_hour_ago: str) -> None:
    now = datetime.now(UTC)
    backlogs = find_backlogs(topic_of_an_hour_ago, kafka, {0: 4}, {}, now)
    assert set(backlogs) == {0}
    assert abs(now - AGE - backlogs[0].oldest_at) < timedelta(minutes=5)
    assert backlogs[0].held_before is None  # nothing was deleted yet
    left = time_to_loss(backlogs[0], now, read_retention(kafka, topic_of_an_hour_ago))
    assert left is not None and abs(left - (RETENTION - AGE)) < timedelta(minutes=5)


def test_nothing_is_in_danger_when_everything_is_read(kafka: KafkaResource, topic_of_an_hour_ago: str) -> None:
    assert find_backlogs(topic_of_an_hour_ago, kafka, {0: 10}, {}, datetime.now(UTC)) == {}


def test_limits_of_time_and_size_are_the_topics_own(kafka: KafkaResource, topic_of_an_hour_ago: str) -> None:
    assert read_retention(kafka, topic_of_an_hour_ago) == RETENTION
    assert read_retention_bytes(kafka, topic_of_an_hour_ago) == 1_000_000
