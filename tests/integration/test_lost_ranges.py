"""Kafka deletes what was not read: the stream stops with the ranges; acknowledged, the hole stays visible for ever."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from deltalake import DeltaTable

import jobs.supervision.stream_context
from jobs.operations.acknowledge_loss import acknowledge_loss
from jobs.operations.explain import explain
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.errors import LostOffsetsError, UsageError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.ingest.lost_ranges import LostRange
from platform_assets.streaming.stream_spec import StreamGroup, select_ingest
from platform_assets.streaming.topic_snapshot import TopicSnapshot
from platform_assets.streams import load_streams
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import event

(EVENTS,) = select_ingest(load_streams())
GROUP = StreamGroup("clickstream", (EVENTS,))


def numbered(*numbers: int) -> list[str]:
    """Event ids."""
    return [f"e{number}" for number in numbers]


@dataclass
class Case:
    """Streams over a topic of one partition, of which ten records are read."""

    streams: StreamsUnderTest
    settings: Settings
    lakehouse: LakehouseResource
    topic: str

    def acknowledge(self, reason: str, go_on_from: str = "") -> list[LostRange]:
        return acknowledge_loss(GROUP, self.settings, "ann", reason, go_on_from)

    def audit(self) -> Audit:
        return audit_stream(EVENTS, self.lakehouse, self.streams.kafka)

    def ids(self) -> list[str]:
        rows = self.streams.rows("silver.events", "select event_id from t order by ingested_at, kafka_offset")
        return [row["event_id"] for row in rows]


@pytest.fixture
def case(
    spark: Any, kafka: KafkaResource, broker: BrokerState, lakehouse: LakehouseResource, settings: Settings,
    topic: Callable[..., str],
) -> Case:  # fmt: skip
    name = topic(1)
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, name)
    streams.send([event(name) for name in numbered(*range(10))])
    streams.drain("events")
    ours = {"topic": name, "kafka_bootstrap_servers": broker.bootstrap_servers, "lakehouse": lakehouse.root}
    return Case(streams, settings.model_copy(update=ours), lakehouse, name)


def test_records_that_aged_out_stop_the_stream_until_they_are_acknowledged(case: Case) -> None:
    case.streams.send([event(name) for name in numbered(*range(10, 20))])
    case.streams.kafka.admin().delete_records([TopicPartition(case.topic, 0, 15)])[
        TopicPartition(case.topic, 0)
    ].result(30)
    with pytest.raises(LostOffsetsError, match=rf"{case.topic}/0 offsets 10 to 14 \(5\).*acknowledge-loss"):
        case.streams.drain("events")
    assert case.acknowledge("") == [LostRange(case.topic, 0, 10, 15, 15)]
    with pytest.raises(LostOffsetsError):
        case.streams.drain("events")

    assert case.acknowledge("the disk was full") == [LostRange(case.topic, 0, 10, 15, 15)]
    case.streams.drain("events")
    assert case.ids() == numbered(*range(10), *range(15, 20))
    audit = case.audit()
    assert (audit.breaches, audit.totals["acknowledged_as_lost"]) == ((), 5)
    assert audit.acknowledged == (f"{case.topic}/0 offsets 10 to 14 (ann: the disk was full)",)
    assert case.acknowledge("again") == []
    [said] = explain([EVENTS], case.lakehouse, case.streams.kafka, offset=f"{case.topic}/0/12")
    assert "Kafka deleted it before it was read; acknowledged by ann" in said


def test_a_crash_between_record_and_checkpoint_only_means_to_acknowledge_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.streams.send([event(name) for name in numbered(*range(10, 20))])
    case.streams.kafka.admin().delete_records([TopicPartition(case.topic, 0, 15)])[
        TopicPartition(case.topic, 0)
    ].result(30)
    with monkeypatch.context() as patch:
        patch.setattr(LakehouseResource, "remove_checkpoint", _die)
        with pytest.raises(KeyboardInterrupt):
            case.acknowledge("the disk was full")
    with pytest.raises(LostOffsetsError):
        case.streams.drain("events")
    case.acknowledge("the disk was full")
    case.streams.drain("events")
    assert len(case.streams.rows("platform.lost_ranges")) == 1
    assert case.audit().breaches == ()


def test_a_topic_that_was_created_again_is_told_apart_from_the_older_one(case: Case) -> None:
    kafka = case.streams.kafka
    kafka.admin().delete_topics([case.topic], operation_timeout=30)[case.topic].result(30)
    ensure_topic(kafka, case.topic, 1)
    # The topic has as many records as before and more: only its id tells.
    case.streams.send([event("e3"), *(event(f"new-{number}") for number in range(11))])
    with pytest.raises(LostOffsetsError, match=f"{case.topic}/0 from offset 10 on .the topic was created again,"):
        case.streams.drain("events")
    with pytest.raises(UsageError, match="say from where to go on"):
        case.acknowledge("it was deleted by mistake")
    case.acknowledge("it was deleted by mistake", "beginning")
    case.streams.drain("events")
    case.streams.send([event("last")])
    case.streams.drain("events")
    assert case.ids() == [*numbered(*range(10)), *(f"new-{number}" for number in range(11)), "last"]
    assert [row["event_id"] for row in case.streams.rows("silver.deduplicated_events")] == ["e3"]
    audit = case.audit()
    assert audit.breaches == ()
    assert audit.acknowledged == (f"{case.topic}/0 from offset 10 on, a log now gone (ann: it was deleted by mistake)",)

    DeltaTable(case.streams.context.table_uri("silver.events")).delete("event_id = 'new-4'")
    assert any(f"{case.topic} #2/0/5 is lost" in breach for breach in case.audit().breaches)


def test_another_topic_is_read_from_its_end_when_somebody_says_so(case: Case) -> None:
    kafka = case.streams.kafka
    kafka.admin().delete_topics([case.topic], operation_timeout=30)[case.topic].result(30)
    ensure_topic(kafka, case.topic, 1)
    case.streams.send([event(f"copy-{number}") for number in range(4)])
    case.acknowledge("moved to another cluster", "end")
    case.streams.send([event("new")])
    case.streams.drain("events")
    assert case.ids() == [*numbered(*range(10)), "new"]
    assert case.audit().breaches == ()


def test_a_partition_that_lost_its_end_is_read_on_from_there(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Kafka's answer is a double: a broker that forgets what it has acknowledged needs a power cut."""
    held = jobs.supervision.stream_context.fetch_held(case.streams.kafka, case.topic)
    cut = TopicSnapshot(held.topic_id, {0: (0, 7)})
    with monkeypatch.context() as patch:
        patch.setattr("jobs.supervision.stream_context.fetch_held", lambda *_: cut)
        ingest = {"events": dataclasses.replace(case.streams.context.ingest["events"], fetch_held=lambda: cut)}
        context = dataclasses.replace(case.streams.context, ingest=ingest)
        streams = dataclasses.replace(case.streams, context=context)
        with pytest.raises(LostOffsetsError, match=f"{case.topic}/0 offsets 7 to 9, which were read"):
            streams.drain("events")
        assert case.acknowledge("power cut") == [LostRange(case.topic, 0, 10, None, 7, is_cut=True)]
    # What the partition has from offset 7 on comes a second time, under offsets that were read: as if sent again.
    case.streams.send([event("new")])
    case.streams.drain("events")
    assert case.ids() == [*numbered(*range(10)), "new"]
    repeated = case.streams.rows("silver.deduplicated_events", "select kafka_offset from t order by 1")
    assert [row["kafka_offset"] for row in repeated] == [7, 8, 9]
    audit = case.audit()
    assert audit.breaches == () and audit.acknowledged == (
        f"{case.topic}/0 from offset 10 on, a log now gone (ann: power cut)",
    )


def test_a_checkpoint_that_is_lost_later_takes_nothing_of_the_older_topic_away(case: Case) -> None:
    kafka = case.streams.kafka
    case.streams.send([b"not json", event("e0")])
    case.streams.drain("events")
    kafka.admin().delete_topics([case.topic], operation_timeout=30)[case.topic].result(30)
    ensure_topic(kafka, case.topic, 1)
    case.streams.send([event(f"new-{number}") for number in range(3)])
    case.acknowledge("it was deleted by mistake", "beginning")
    case.streams.drain("events")
    case.lakehouse.remove_checkpoint("silver.events")
    case.streams.drain("events")
    assert (
        len(case.streams.rows("silver.quarantined_events")) == len(case.streams.rows("silver.deduplicated_events")) == 1
    )
    assert case.audit().breaches == ()


def test_a_topic_that_is_created_again_under_a_running_query_is_not_read(case: Case) -> None:
    kafka = case.streams.kafka
    group = QueryGroup(case.streams.session, [EVENTS], case.streams.context)
    group.start()
    try:
        kafka.admin().delete_topics([case.topic], operation_timeout=30)[case.topic].result(30)
        ensure_topic(kafka, case.topic, 1)
        case.streams.send([event(f"new-{number}") for number in range(30)])
        deadline = time.monotonic() + LIMIT_SECONDS
        while (failure := group.failure()) is None:
            assert time.monotonic() < deadline, "nobody noticed"
            time.sleep(0.2)
    finally:
        group.stop(30)
    assert isinstance(failure, LostOffsetsError), failure
    assert f"{case.topic}/0 from offset 10 on (the topic was created again," in str(failure)
    assert case.ids() == numbered(*range(10))


def _die(*args: object) -> None:
    raise KeyboardInterrupt
