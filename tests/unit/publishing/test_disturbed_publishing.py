"""What others do to a published topic, its position and its table, by a real broker."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from confluent_kafka.admin import NewPartitions
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import BrokerUnavailableError, NotReadyError
from platform_assets.publishing import position, transactional_sender
from platform_assets.publishing.position import PublishedPosition, encode, read_position
from platform_assets.publishing.selection import POSITIONS_TOPIC
from platform_assets.publishing.table_publisher import TablePublisher
from resources.kafka import KafkaResource
from resources.kafka_open_transactions import read_ends
from resources.kafka_topics import create_topic
from resources.lakehouse import LakehouseResource
from tests.unit.publishing.published_table import PublishedTable
from tests.unit.sinks.sunk_table import build_row, wait_for


def put_position(published: PublishedTable, value: bytes | None) -> None:
    producer = published.kafka.producer()
    producer.produce(POSITIONS_TOPIC, value, published.topic.encode(), 0)
    assert producer.flush(30) == 0


def count_rows(published: PublishedTable) -> Counter[int]:
    return Counter(json.loads(record.key)["number"] for record in published.read())


def make_topic_anew(published: PublishedTable) -> None:
    kafka = published.kafka
    kafka.admin().delete_topics([published.topic])[published.topic].result(30)
    wait_for(lambda: published.topic not in kafka.admin().list_topics(timeout=10).topics, "the topic is gone")
    create_topic(kafka, published.topic, 3, 1)


def publish_as_stream(published: PublishedTable, version: int, number: int) -> None:
    """Sends a row as the stream itself does by the default setting."""
    producer = published.kafka.producer()
    headers: list[Any] = [("query", b"published_rows"), ("batch", b"7"), ("version", b"%d" % version)]
    producer.produce(published.topic, b"{}", json.dumps({"number": number}).encode(), headers=headers)
    assert producer.flush(30) == 0


_NOT_A_POSITION = st.binary() | st.builds(
    lambda version, portions: json.dumps(
        {"table_id": "t", "version": version, "digest": "d", "topic_id": "i", "portions": portions}
    ).encode(),
    st.integers(max_value=-1) | st.booleans() | st.floats(0.5, 0.6),
    st.none() | st.integers(),
)


@given(_NOT_A_POSITION)
def test_no_bytes_but_a_position_are_taken_for_one(value: bytes) -> None:
    with (
        mock.patch.object(position, "read_last", return_value=value),
        pytest.raises(BrokerUnavailableError, match="is no position"),
    ):
        read_position(KafkaResource(), "topic")


@pytest.mark.long
def test_a_position_of_another_program_has_the_table_sent_as_a_whole(published: PublishedTable) -> None:
    published.table.append([build_row(1)])
    publisher = published.follow()
    assert publisher._position is not None
    for wrong in (
        replace_position(publisher, version=99, digest="0"),
        replace_position(publisher, digest="0"),
        replace_position(publisher, topic_id="another"),
    ):
        before = count_rows(published)[1]
        put_position(published, encode(wrong))
        published.follow()
        assert count_rows(published)[1] == before + 1
    published.table.append([build_row(2)])
    published.follow()
    assert count_rows(published)[2] == 1


def replace_position(publisher: TablePublisher, **changes: Any) -> PublishedPosition:
    assert publisher._position is not None
    return msgspec.structs.replace(publisher._position, **changes)


def test_a_tombstone_in_place_of_the_position_goes_on_with_the_versions_that_come(published: PublishedTable) -> None:
    published.table.append([build_row(1)])
    published.follow()
    put_position(published, None)
    published.table.append([build_row(2)])
    publisher = published.follow()
    published.table.append([build_row(3)])
    published.follow(publisher)
    assert count_rows(published) == {1: 1, 3: 1}


def test_a_topic_that_was_made_anew_gets_the_whole_table(
    published: PublishedTable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.table.append([build_row(1)])
    published.table.append([build_row(2)])
    running = published.follow()
    make_topic_anew(published)
    published.follow()
    assert "was made anew" in caplog.text
    published.demand_exact()
    make_topic_anew(published)
    published.table.append([build_row(3)])
    monkeypatch.setattr("platform_assets.publishing.table_publisher._LIST_SECONDS", 0.0)
    published.follow(running)
    published.demand_exact()


def test_a_table_that_was_made_anew_is_sent_as_a_whole(published: PublishedTable) -> None:
    published.table.append([build_row(1)])
    published.table.append([build_row(2)])
    running = published.follow()
    shutil.rmtree(published.table.log_folder.parent)
    published.table.append([build_row(2, text="new")])
    published.table.append([build_row(3)])
    running.close()
    published.follow(running)
    assert count_rows(published) == {1: 1, 2: 2, 3: 1}
    published.table.append([build_row(4)])
    published.follow(running)
    assert count_rows(published)[4] == 1


def test_two_platforms_of_one_topic_do_not_send_their_tables_in_turn(published: PublishedTable, tmp_path: Path) -> None:
    other = PublishedTable(
        published.kafka, LakehouseResource(root=str(tmp_path / "other")), published.table.engine, published.topic
    )
    published.table.append([build_row(1)])
    other.table.append([build_row(2)])
    first, second = published.follow(), other.follow()
    published.table.append([build_row(3)])
    with pytest.raises(BrokerUnavailableError):
        published.follow(first)
    for _ in range(3):
        with pytest.raises(NotReadyError, match="Another platform publishes"):
            published.follow(first)
    second.close()
    other.table.append([build_row(4)])
    other.follow(second)
    assert count_rows(published) == {1: 1, 2: 1, 4: 1}


@pytest.mark.long
def test_partitions_may_be_added(published: PublishedTable) -> None:
    published.table.append([build_row(number) for number in range(20)])
    running = published.follow()
    published.kafka.admin().create_partitions([NewPartitions(published.topic, 8)])[published.topic].result(30)
    published.table.append([build_row(number) for number in range(20, 40)])
    published.follow(running)
    published.table.append([build_row(number) for number in range(40, 80)])
    published.follow()
    published.demand_exact()
    assert len(published.read()) == 80 and {record.partition for record in published.read()} > {0, 1, 2}


def test_versions_that_the_stream_has_published_meanwhile_are_not_sent_again(
    published: PublishedTable, caplog: pytest.LogCaptureFixture
) -> None:
    """The setting goes from transactions to the default and back."""
    published.table.append([build_row(1)])
    published.follow()
    for version, number in ((2, 2), (3, 3)):
        published.table.append([build_row(number)])
        publish_as_stream(published, version, number)
    published.table.append([build_row(4)])  # the stream was killed before it published this
    published.follow()
    assert "begins behind version 3" in caplog.text
    published.follow()
    assert count_rows(published) == {1: 1, 2: 1, 3: 1, 4: 1}


def test_a_first_start_begins_behind_what_the_stream_has_published(published: PublishedTable) -> None:
    published.table.append([build_row(1)])
    publish_as_stream(published, 1, 1)
    published.table.append([build_row(2)])
    published.follow()
    assert count_rows(published) == {1: 1, 2: 1}


def test_a_version_of_an_earlier_table_is_not_taken_for_one_of_this(published: PublishedTable) -> None:
    publish_as_stream(published, 3, 0)
    published.table.append([build_row(1)])
    publisher = published.follow()
    for number in (2, 3, 4):
        published.table.append([build_row(number)])
    published.follow()
    assert publisher.version == 1 and count_rows(published) == {0: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.long
def test_a_version_that_is_sent_longer_than_a_transaction_may_last_is_named(
    published: PublishedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactional_sender, "_LONGEST_SECONDS", 10)
    sender = transactional_sender.TransactionalSender(published.kafka, published.topic, 3)
    assert sender.open() is None

    def ends_of_partitions() -> Collection[tuple[int, int]]:
        return read_ends(published.kafka, published.topic).values()

    def send_slowly() -> Iterator[tuple[bytes, bytes]]:
        yield b"first", b"1"
        wait_for(lambda: any(end for _, end in ends_of_partitions()), "the record is there")
        # Kafka looks for such transactions each ten seconds.
        wait_for(lambda: all(stable == end for stable, end in ends_of_partitions()), "Kafka has ended the transaction")
        yield b"last", b"2"

    with pytest.raises(BrokerUnavailableError, match=r"ends a transaction after 10 s, and version 5"):
        sender.send(send_slowly(), {}, PublishedPosition("t", 5, "d", "i"))
    assert published.read() == [] and sender.open() is None
