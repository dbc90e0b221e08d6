"""Streams over a Kafka of three brokers that are killed, frozen, restarted and kept away, while records are sent."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import NewTopic

from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import BrokerUnavailableError
from platform_assets.kafka_replication import find_weaknesses
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import KafkaStream, Stream
from platform_assets.streams import high_value_users, load_streams
from resources import range_reader
from resources.kafka import KafkaResource
from resources.kafka_topics import read_replication
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.test_kafka_publisher import read_topic
from tests.integration.test_watermarks import purchase
from tests.kafka_cluster import BROKERS, KafkaCluster, TopicState, running_cluster, wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.release

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
EVENTS, USERS = "cluster-events", "cluster-users"
_USERS = 7


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@dataclass
class Shop:
    """Sends purchases, by the platform's own producer, until it is told to end; knows where each was acknowledged."""

    kafka: KafkaResource
    acknowledged: dict[tuple[int, int], str] = field(default_factory=dict)
    failures: list[Any] = field(default_factory=list)
    left: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        producer = self.kafka.producer(partitioner="murmur2_random")
        for number in itertools.count():
            if self._ended.wait(0.02):
                break
            value = purchase(number, NOON, user_id=f"u{number % _USERS}", revenue=1.0)
            producer.produce(EVENTS, value, f"u{number % _USERS}", on_delivery=self._learn)
            producer.poll(0)
        self.left = producer.flush(120)

    def close(self) -> None:
        """Afterwards all that was sent is acknowledged."""
        self._ended.set()
        self._thread.join()
        assert not self.left and not self.failures

    def _learn(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failures.append(error)
            return
        self.acknowledged[message.partition(), message.offset()] = json.loads(message.value())["event_id"]

    def ends(self) -> dict[int, int]:
        """The offset behind the newest acknowledged record, by partition."""
        found: dict[int, int] = defaultdict(int)
        for partition, offset in list(self.acknowledged):
            found[partition] = max(found[partition], offset + 1)
        return dict(found)


@dataclass
class ClusteredStreams:
    """The stream over the topic and one over its table, which is published."""

    session: SparkSession
    settings: Settings
    kafka: KafkaResource
    lakehouse: LakehouseResource

    def streams(self) -> list[Stream]:
        (events,) = (stream for stream in load_streams() if stream.name == "events")
        return [events, dataclasses.replace(high_value_users.STREAM, publish_topic=USERS)]

    def build(self) -> QueryGroup:
        """Asks Kafka, as each start of a group does."""
        context = build_stream_context(self.settings, self.kafka, self.lakehouse, self.streams())
        return QueryGroup(self.session, self.streams(), context)

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        found = self.lakehouse.find_table(table)
        return [] if found is None else found.to_pyarrow_table(columns=list(columns) or None).to_pylist()

    def read_until(self) -> dict[int, int]:
        """The offset behind the newest record in the table, by partition."""
        found: dict[int, int] = defaultdict(int)
        for row in self.rows("silver.events", "kafka_partition", "kafka_offset"):
            found[row["kafka_partition"]] = max(found[row["kafka_partition"]], row["kafka_offset"] + 1)
        return found


@pytest.fixture
def streams(cluster: KafkaCluster, spark: SparkSession, tmp_path: Path) -> Iterator[ClusteredStreams]:
    settings = cluster.settings(tmp_path / "home", topic=EVENTS, trigger_seconds=0.5, idle_timeout_seconds=0.0)
    with KafkaResource.from_settings(settings) as kafka:
        yield ClusteredStreams(spark, settings, kafka, LakehouseResource.from_settings(settings))


def create_topics(kafka: KafkaResource, *names: str) -> None:
    weak = NewTopic("cluster-weak", 1, 1)
    for future in kafka.admin().create_topics([weak, *(NewTopic(name, 3, 3) for name in names)]).values():
        future.result(30)
    for name in names:
        wait_until(partial(is_in_sync, kafka, name), f"{name} has its replicas")


def is_in_sync(kafka: KafkaResource, topic: str) -> bool:
    return set(TopicState.read(kafka, topic).in_sync.values()) == {BROKERS}


def find_leader(kafka: KafkaResource, partition: int) -> int:
    found = TopicState.read(kafka, EVENTS).leaders[partition]
    assert found is not None
    return found


def wait_for_commits(streams: ClusteredStreams, shop: Shop, group: QueryGroup, what: str) -> None:
    """Records that are acknowledged from now on, in each partition, come into the table, by the same queries."""
    before = shop.ends()
    wait_until(lambda: all(end > before.get(p, 0) for p, end in shop.ends().items()), f"records are taken: {what}")
    wanted = shop.ends()

    def are_written() -> bool:
        if (failure := group.failure()) is not None:
            raise failure
        group.reconcile(frozenset(), {})
        found = streams.read_until()
        return all(found[p] >= end for p, end in wanted.items())

    wait_until(are_written, f"commits go on: {what}")


def test_nothing_is_lost_or_doubled_while_brokers_come_and_go(
    cluster: KafkaCluster, streams: ClusteredStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = streams.kafka
    create_topics(kafka, EVENTS, USERS)
    assert find_weaknesses(read_replication(kafka, EVENTS)) == []
    (weakness,) = find_weaknesses(read_replication(kafka, "cluster-weak"))
    assert "1 of the 3 replicas" in weakness
    shop = Shop(kafka)
    group = streams.build()
    group.start()
    wait_for_commits(streams, shop, group, "all brokers are up")

    killed = find_leader(kafka, 0)
    cluster.kill(killed)
    wait_until(lambda: killed not in TopicState.read(kafka, EVENTS).leaders.values(), "others lead")
    wait_for_commits(streams, shop, group, "a leader is dead")
    cluster.start(killed)
    wait_until(lambda: is_in_sync(kafka, EVENTS), "the killed broker has caught up")

    frozen = find_leader(kafka, 1)
    with cluster.frozen(frozen):
        wait_until(lambda: frozen not in TopicState.read(kafka, EVENTS).leaders.values(), "others lead")
        wait_for_commits(streams, shop, group, "a leader is frozen")

    for broker in BROKERS:
        wait_until(lambda: is_in_sync(kafka, EVENTS), "all replicas are in sync")
        cluster.stop(broker)
        cluster.start(broker)
    wait_for_commits(streams, shop, group, "all brokers were restarted")

    keep_all_in_sync_replicas_away(cluster, streams, shop, group, monkeypatch)
    shop.close()
    group.stop(30)
    run_to_end(streams.build())
    check_whole(streams, shop)


def keep_all_in_sync_replicas_away(
    cluster: KafkaCluster, streams: ClusteredStreams, shop: Shop, group: QueryGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, refused = streams.kafka, f"cannot serve topic {EVENTS}: a partition has no leader"
    wait_until(lambda: is_in_sync(kafka, EVENTS), "all replicas are in sync")
    cluster.kill(3)
    wait_until(lambda: set(TopicState.read(kafka, EVENTS).in_sync.values()) == {(1, 2)}, "broker 3 is out of sync")
    wait_for_commits(streams, shop, group, "broker 3 is dead")
    cluster.kill(1, 2)
    cluster.start(3)
    wait_until(lambda: set(TopicState.read(kafka, EVENTS).leaders.values()) == {None}, "nobody leads")
    acknowledged = len(shop.acknowledged)
    with pytest.raises(BrokerUnavailableError, match=refused):
        streams.build()
    with monkeypatch.context() as patched, pytest.raises(BrokerUnavailableError, match=refused):
        patched.setattr(range_reader, "_SILENCE_SECONDS", 2.0)  # as a batch in flight, which is more patient
        list(range_reader.RangeReader(kafka.client_config())(EVENTS, [(0, 0, 1)]))
    assert len(shop.acknowledged) == acknowledged
    cluster.start(1, 2)
    wait_until(lambda: None not in TopicState.read(kafka, EVENTS).leaders.values(), "all partitions have leaders")
    wait_for_commits(streams, shop, group, "the brokers are back")


def check_whole(streams: ClusteredStreams, shop: Shop) -> None:
    rows = streams.rows("silver.events", "kafka_partition", "kafka_offset", "event_id")
    assert len(rows) == len(shop.acknowledged)
    assert {(row["kafka_partition"], row["kafka_offset"]): row["event_id"] for row in rows} == shop.acknowledged
    (events,) = (stream for stream in streams.streams() if isinstance(stream, KafkaStream))
    assert not audit_stream(events, streams.lakehouse, streams.kafka).breaches
    sent = Counter(int(event_id[1:]) % _USERS for event_id in shop.acknowledged.values())
    starts = [NOON - timedelta(minutes=n) for n in range(5)]
    expected = {(start, f"u{n}"): float(spent) for start in starts for n, spent in sent.items() if spent > 100}
    table = streams.rows("gold.high_value_users")
    assert {(row["window_start"], row["user_id"]): row["total_spent"] for row in table} == expected and expected
    assert len(table) == len(expected)
    published = {  # the records of a key are in order: the newest counts
        (datetime.fromisoformat(key["window_start"]), key["user_id"]): value["total_spent"]
        for key, value, _ in read_topic(streams.kafka, USERS)
    }
    assert published == expected
