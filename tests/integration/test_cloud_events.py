"""A topic of CloudEvents in both modes on a real broker: rows, quarantine with headers, requeue, replay, forgetting."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.proof import search_files
from jobs.operations.replay.kafka_records import read_records
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_spec import CloudEvents, EventTime, Record, Topic
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime.now(UTC).replace(microsecond=0)
USER, OTHER = "user-77", "user-78"
Headers = list[tuple[str, bytes | str | None]]


class Order(Record):
    count: int


class Ordered(Record):
    id: str
    source: str
    type: str
    time: datetime
    subject: str
    data: Order
    tenant: str = ""
    specversion: str | None = None
    datacontenttype: str | None = None


def refuse_closed(record: Any) -> tuple[str, str] | None:
    """Refuses records of a tenant that has left; who that is stands in a header."""
    return ("closed_tenant", record.tenant) if record.tenant == "grey" else None


TOPIC = Topic(
    name="ordered", description="Orders as CloudEvents.", kafka_topic="ordered", record=Ordered,
    event_time=EventTime("time"), event_id=("source", "id"), event_type="type", subject="subject",
    values=CloudEvents(), headers={"tenant": "x-tenant"}, compression="gzip",
    rules=(refuse_closed,),
)  # fmt: skip


def attributes(number: int, user: str) -> dict[str, str]:
    return {
        "specversion": "1.0", "id": f"o{number}", "source": "/shop", "type": "ordered", "time": NOW.isoformat(),
        "subject": user, "datacontenttype": "application/json",
    }  # fmt: skip


def structured(number: int, user: str, data: Any) -> tuple[bytes, Headers]:
    event = json.dumps({**attributes(number, user), "data": data}).encode()
    return event, [("content-type", "application/cloudevents+json"), ("x-tenant", "blue")]


def binary(number: int, user: str, data: Any) -> tuple[bytes, Headers]:
    named: Headers = [(f"ce_{name}", text) for name, text in attributes(number, user).items() if "content" not in name]
    return json.dumps(data).encode(), [*named, ("content-type", "application/json"), ("x-tenant", "blue"), ("x", None)]


@dataclasses.dataclass(frozen=True)
class World:
    session: SparkSession
    kafka: KafkaResource
    stream: KafkaStream
    lakehouse: LakehouseResource
    streams: StreamsUnderTest

    def send(self, records: Sequence[tuple[bytes, Headers]]) -> None:
        from platform_assets.streaming.compression import compress

        producer = self.kafka.producer()
        for value, headers in records:
            packed = compress(value, "gzip")
            producer.produce(self.stream.topic.kafka_topic, value=packed, key=b"k", partition=0, headers=headers)
        assert producer.flush(30) == 0

    def drain(self) -> None:
        run_to_end(QueryGroup(self.session, [self.stream], self.streams.context))


@pytest.fixture
def world(spark: SparkSession, kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> World:
    stream = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=topic(1)), 0.0)
    settings = Settings(home=tmp_path / "home", kafka_bootstrap_servers="", topic_partitions=1)
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    context = build_stream_context(settings, kafka, lakehouse, [stream])
    return World(spark, kafka, stream, lakehouse, StreamsUnderTest(spark, kafka, context))


def test_both_modes_are_rows_and_what_is_refused_comes_back_with_its_headers(world: World) -> None:
    good = {"count": 1}
    value, headers = binary(3, OTHER, good)
    of_closed: Headers = [*headers, ("x-tenant", "grey")]
    world.send([structured(0, USER, good), binary(1, USER, good), binary(2, OTHER, good), (value, of_closed)])
    world.drain()
    rows = world.streams.rows("silver.ordered")
    found = sorted((row["id"], row["subject"], row["data"]["count"], row["tenant"]) for row in rows)
    assert found == [("o0", USER, 1, "blue"), ("o1", USER, 1, "blue"), ("o2", OTHER, 1, "blue")]
    assert {row["unknown_fields"] for row in rows} == {None}
    (refused,) = world.streams.rows("silver.quarantined_ordered")
    assert refused["reason"] == "closed_tenant" and {"key": "ce_id", "value": b"o3"} in refused["headers"]
    assert audit_stream(world.stream, world.lakehouse, world.kafka).breaches == ()
    opened = KafkaStream(dataclasses.replace(world.stream.topic, rules=()), 0.0)
    requeuer = Requeuer(opened, world.streams.context)
    requeuer.commit(requeuer.plan(RecordFilter(), "me", datetime.now(UTC)))
    (row,) = world.streams.rows("silver.ordered", "select * from t where id = 'o3'")
    assert (row["tenant"], row["subject"]) == ("grey", OTHER)


def test_a_replay_reads_the_same_records_with_their_headers(world: World) -> None:
    world.send([structured(0, USER, {"count": 1}), binary(1, OTHER, {"count": 2}), binary(2, OTHER, "x")])
    world.drain()
    topic = world.stream.topic
    again = read_records(world.session, world.streams.context, topic, [OffsetRange(topic.kafka_topic, 0, 0, 3)])
    found = {row["kafka_offset"]: row for row in again.toArrow().to_pylist()}
    accepted = world.streams.rows("silver.ordered")
    for row in accepted:
        same = found[row["kafka_offset"]]
        assert all(same[name] == row[name] for name in ("id", "subject", "tenant", "event_id", "event_time", "data"))
    (refused,) = world.streams.rows("silver.quarantined_ordered")
    same = found[refused["kafka_offset"]]
    assert (same["_reason"], same["_value"], same["_headers"]) == (
        refused["reason"], refused["value"], refused["headers"],
    )  # fmt: skip


def test_who_is_named_in_headers_alone_is_forgotten(world: World) -> None:
    sent = [binary(number, user, data) for number, (user, data) in enumerate(
        [(USER, {"count": 1}), (USER, {"count": "x"}), (OTHER, {"count": 1}), (OTHER, {"count": "x"})]
    )]  # fmt: skip
    world.send(sent)
    world.drain()
    erasure = Erasure(USER, [world.stream], world.streams.context, "a test", "asked to")
    _, rows = erasure.take_out(world.session, lambda: None, lambda line: None)
    erasure.remove_files(lambda: None)
    assert (rows["silver.ordered"], rows["silver.quarantined_ordered"]) == (1, 1)
    world.send(sent)
    world.drain()
    assert search_files(world.lakehouse, USER, [world.stream.topic]).found == ()
    assert search_files(world.lakehouse, OTHER, [world.stream.topic]).found
    assert len(world.streams.rows("silver.quarantined_ordered")) == 2  # the other one's, twice
