"""The newest committed record of a key, read backwards from the end of a topic, by a real broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from platform_assets.errors import BrokerUnavailableError
from resources import kafka_records
from resources.kafka import KafkaResource
from resources.kafka_records import read_last


def test_the_newest_record_of_a_key_is_found_wherever_it_lies(
    kafka: KafkaResource, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_records, "_NEAR_OFFSETS", 2)
    name, written = topic(1), dict[bytes, bytes | None]()
    producer = kafka.producer()
    for number in range(40):
        key, value = b"%d" % (number % 7 if number < 25 else 3), None if number == 24 else b"v%d" % number
        producer.produce(name, value, key, 0)
        written[key] = value
    producer.flush(30)
    assert written[b"3"] == b"v39"
    for key, value in written.items():
        assert read_last(kafka, name, key) == value
    assert read_last(kafka, name, b"unknown") is None


def test_what_lies_behind_an_open_transaction_is_not_taken_for_absent(
    kafka: KafkaResource, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(1)
    other = kafka.producer(transactional_id=f"other-{name}", transaction_timeout_ms=60_000, delivery_timeout_ms=60_000)
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(name, b"of another sender", b"other", 0)
    other.flush(30)
    producer = kafka.producer()
    producer.produce(name, b"behind it", b"key", 0)
    producer.flush(30)
    with monkeypatch.context() as patch, pytest.raises(BrokerUnavailableError, match="behind an open transaction"):
        patch.setattr(kafka_records, "TIMEOUT_SECONDS", 5.0)
        read_last(kafka, name, b"key")
    other.abort_transaction(30)
    assert read_last(kafka, name, b"key") == b"behind it"
    assert read_last(kafka, name, b"other") is None
