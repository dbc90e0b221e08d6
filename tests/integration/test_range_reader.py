"""Ranges of a topic as Spark's tasks read them, next to an independent read of the same broker."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_assets.errors import BrokerUnavailableError, LostOffsetsError, MissingTopicError
from resources import range_reader
from resources.kafka import KafkaResource
from resources.kafka_records import find_records
from resources.range_reader import RangeReader

# What producers do with a partition: plain records, a transaction that is committed, and one that is given up.
steps = st.lists(st.tuples(st.sampled_from(["plain", "committed", "aborted"]), st.integers(1, 4)), max_size=6)


def send(kafka: KafkaResource, topic: str, partition: int, done: list[tuple[str, int]]) -> None:
    plain = Producer(kafka.client_config())
    sender = Producer({**kafka.client_config(), "transactional.id": f"{topic}-{partition}"})
    sender.init_transactions()
    for number, (kind, count) in enumerate(done):
        producer = plain if kind == "plain" else sender
        if kind != "plain":
            sender.begin_transaction()
        for record in range(count):
            value = None if record == 3 else f"{number}-{record}".encode()
            producer.produce(topic, value, f"k{partition}".encode(), partition, timestamp=1_790_000_000_000 + number)
        producer.flush()
        if kind == "committed":
            sender.commit_transaction()
        elif kind == "aborted":
            sender.abort_transaction()


def read(reader: RangeReader, topic: str, ranges: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    rows = [row for batch in reader(topic, ranges) for row in batch.to_pylist()]
    # Of which partition records come first is nobody's to say.
    return sorted(rows, key=lambda row: row["partition"])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(steps, steps), st.data())
def test_the_committed_records_of_each_range_are_read_and_no_others(
    kafka: KafkaResource, topic: Callable[..., str], done: tuple[list[tuple[str, int]], ...], data: st.DataObject
) -> None:
    name = topic(2)
    for partition, own in enumerate(done):
        send(kafka, name, partition, own)
    ends = kafka.end_offsets(name, committed=True)
    ranges = []
    for partition, end in ends.items():
        start = data.draw(st.integers(0, end))
        ranges.append((partition, start, data.draw(st.integers(start, end))))
    reader = RangeReader(kafka.client_config(), most_records=3)
    found = read(reader, name, ranges)
    assert sorted((row["partition"], row["offset"]) for row in found) == sorted(find_records(kafka, name, ranges))
    for partition in ends:
        own_offsets = [row["offset"] for row in found if row["partition"] == partition]
        assert own_offsets == sorted(own_offsets)
    assert all(row["key"] == f"k{row['partition']}".encode() for row in found)
    # The same consumer is asked again, in the same process.
    assert read(reader, name, ranges) == found


def test_a_record_is_read_as_it_was_sent_and_batches_are_bounded_in_bytes(
    kafka: KafkaResource, topic: Callable[..., str]
) -> None:
    name = topic(1)
    sender = Producer({**kafka.client_config(), "message.max.bytes": 16 << 20})
    sent = [b"x" * (1 << 20) if number % 2 else b"y" for number in range(60)]
    for value in sent:
        sender.produce(name, value, None, 0, timestamp=1_790_000_000_123)
        sender.poll(0)
    sender.flush()
    batches = list(RangeReader(kafka.client_config())(name, [(0, 0, 60)]))
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["value"] for row in rows] == sent and {row["key"] for row in rows} == {None}
    assert {row["timestamp"].timestamp() for row in rows} == {1_790_000_000.123}
    assert max(batch.nbytes for batch in batches) < 20 << 20


def test_what_cannot_be_read_is_said_and_the_next_read_begins_anew(
    kafka: KafkaResource, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, reader = topic(1), RangeReader(kafka.client_config())
    send(kafka, name, 0, [("plain", 4), ("plain", 4)])
    kafka.admin().delete_records([TopicPartition(name, 0, 5)])[TopicPartition(name, 0)].result()
    with pytest.raises(LostOffsetsError, match=name):
        read(reader, name, [(0, 2, 8)])
    assert len(read(reader, name, [(0, 5, 8)])) == 3
    monkeypatch.setattr(range_reader, "_SILENCE_SECONDS", 1.0)
    with pytest.raises(MissingTopicError, match="no-such-topic"):
        read(reader, "no-such-topic", [(0, 0, 1)])
    with pytest.raises(LostOffsetsError, match="partition 0 ends at 8, before 9"):
        read(reader, name, [(0, 5, 9)])
    nobody = dataclasses.replace(reader, options={"bootstrap.servers": "127.0.0.1:1"})
    with pytest.raises(BrokerUnavailableError, match=f"no record of {name}"):
        read(nobody, name, [(0, 5, 8)])
    assert "bootstrap" not in repr(reader)
