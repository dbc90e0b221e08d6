"""A topic whose values schemas of a real registry wrote, in three formats at once, and schemas that change meanwhile.

What comes out is compared with what plain Python makes of the same orders.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import io
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
import fastavro
import pytest
from deltalake import DeltaTable
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, timestamp_pb2
from grpc_tools import protoc

from jobs.operations.explain import explain
from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.proof import search_files
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.checks.schemas import build_schemas_checks
from platform_assets.errors import RegistryUnavailableError, SettingError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.protobuf_schema import read_protobuf
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_spec import EventTime, Record, RegistryValues, Topic, digits
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.access import RegistryAccess
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS, run_to_end
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime.now(UTC).replace(microsecond=0)


class Line(Record):
    sku: str
    count: int


class Order(Record):
    order_id: str
    at: datetime
    customer: str
    amount: Annotated[Decimal, digits(12, 2)]
    lines: list[Line] = []
    note: str | None = None


TOPIC = Topic(
    name="orders", description="Orders.", kafka_topic="orders", record=Order, event_time=EventTime("at"),
    event_id=("order_id",), subject="customer", values=RegistryValues(),
)  # fmt: skip
_LINE = {
    "type": "record",
    "name": "Line",
    "fields": [{"name": "sku", "type": "string"}, {"name": "count", "type": "int"}],
}
_FIELDS: list[dict[str, Any]] = [
    {"name": "order_id", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "lines", "type": {"type": "array", "items": _LINE}},
    {"name": "note", "type": ["null", "string"], "default": None},
]
_PROTO = """syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Line { string sku = 1; int32 count = 2; }
message Unused { string what = 1; }
message Order {
  string order_id = 1;
  google.protobuf.Timestamp at = 2;
  string customer = 3;
  string amount = 4;
  repeated Line lines = 5;
  optional string note = 6;
}
"""
_JSON = {
    "type": "object", "required": ["order_id", "at"],
    "properties": {
        "order_id": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
        "customer": {"type": "string"}, "amount": {"type": "number"}, "note": {"type": ["string", "null"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {
            "sku": {"type": "string"}, "count": {"type": "integer"}}, "required": ["sku", "count"]}},
    },
}  # fmt: skip
Write = Callable[[dict[str, Any]], bytes]


def avro(registry: SchemaRegistry, subject: str, fields: list[dict[str, Any]], mode: Any = None) -> tuple[int, Write]:
    """Registers an Avro schema; gives its id and a function that writes an order by it."""
    schema = {"type": "record", "name": "Order", "namespace": "shop", "fields": fields}
    schema_id = registry.register(subject, "avro", json.dumps(schema), compatibility=mode)
    parsed = fastavro.parse_schema(schema)

    def write(order: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, order)
        return frame(schema_id, out.getvalue())

    return schema_id, write


def protobuf(registry: SchemaRegistry, subject: str) -> Write:
    """The same for Protobuf: the third message of its file."""
    schema_id = registry.register(subject, "protobuf", _PROTO)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "order.proto").write_text(_PROTO)
        builtin = str(importlib.resources.files("grpc_tools") / "_proto")
        assert (
            protoc.main(["", f"-I{folder}", f"-I{builtin}", f"--descriptor_set_out={folder}/out", "order.proto"]) == 0
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(folder, "out").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(files.file[0])
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))

    def write(order: dict[str, Any]) -> bytes:
        document = {**order, "at": order["at"].isoformat(), "amount": str(order["amount"])}
        found = json_format.ParseDict({k: v for k, v in document.items() if v is not None}, message())
        # The index of the third message: a list of one number, both as zigzag varints.
        return frame(schema_id, b"\x02\x04" + found.SerializeToString())

    return write


def as_json(registry: SchemaRegistry, subject: str) -> Write:
    """The same for JSON Schema."""
    schema_id = registry.register(subject, "json", json.dumps(_JSON))

    def write(order: dict[str, Any]) -> bytes:
        text = json.dumps({**order, "at": order["at"].isoformat(), "amount": float(order["amount"])})
        return frame(schema_id, text.encode())

    return write


def order(number: int, **other: Any) -> dict[str, Any]:
    return {
        "order_id": f"o{number}", "at": NOW - timedelta(seconds=number), "customer": f"c{number % 7}",
        "amount": Decimal(number * 101) / 100, "note": None if number % 3 else f"note {number}",
        "lines": [{"sku": f"s{line}", "count": line} for line in range(number % 3)], **other,
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class World:
    """A topic, a registry, and the stream of the topic."""

    session: SparkSession
    kafka: KafkaResource
    registry: SchemaRegistry
    stream: KafkaStream
    settings: Settings
    lakehouse: LakehouseResource

    def build_streams(self) -> StreamsUnderTest:
        context = build_stream_context(self.settings, self.kafka, self.lakehouse, [self.stream])
        return StreamsUnderTest(self.session, self.kafka, context)

    @property
    def subject(self) -> str:
        return f"{self.stream.topic.kafka_topic}-value"

    def send(self, values: Sequence[bytes | None]) -> None:
        producer = self.kafka.producer()
        for value in values:
            producer.produce(self.stream.topic.kafka_topic, value=value, key=b"k", partition=0)
        assert producer.flush(30) == 0


@pytest.fixture
def world(
    spark: SparkSession,
    kafka: KafkaResource,
    schema_registry: SchemaRegistry,
    topic: Callable[..., str],
    tmp_path: Path,
) -> World:
    stream = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=topic(1)), 0.0)
    (url,) = schema_registry.access.urls
    settings = Settings(
        home=tmp_path / "home", kafka_bootstrap_servers="", topic_partitions=1, schema_registry_url=url,
    )  # fmt: skip
    return World(spark, kafka, schema_registry, stream, settings, LakehouseResource(root=str(tmp_path / "lakehouse")))


@pytest.fixture
def running(world: World) -> Iterator[StreamsUnderTest]:
    """The stream, while it runs."""
    streams = world.build_streams()
    group = QueryGroup(world.session, [world.stream], streams.context)
    group.start()
    try:
        yield streams
        assert group.failure() is None
    finally:
        group.stop(30)


def wait_for_rows(streams: StreamsUnderTest, table: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        rows = streams.rows(table)
        if len(rows) >= count:
            return rows
        time.sleep(0.2)
    pytest.fail(f"{table} has no {count} rows")


def as_written(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows as the orders that were sent."""
    return {
        row["order_id"]: {
            "order_id": row["order_id"], "at": row["event_time"], "customer": row["customer"], "amount": row["amount"],
            "note": row["note"], "lines": [dict(line) for line in row["lines"]],
        }
        for row in rows
    }  # fmt: skip


def test_three_formats_on_one_topic_are_rows_of_one_contract(world: World) -> None:
    _, write_avro = avro(world.registry, world.subject, _FIELDS)
    writers = [
        write_avro,
        protobuf(world.registry, f"{world.subject}-p"),
        as_json(world.registry, f"{world.subject}-j"),
    ]
    sent = [order(number) for number in range(300)]
    values: list[bytes | None] = [writers[number % 3](each) for number, each in enumerate(sent)]
    repeats = [writers[(number + 1) % 3](sent[number]) for number in range(20)]
    broken = [b"{}", None, values[0][:-3] if values[0] else b"", frame(2**31, b"x"), (values[1] or b"") + b"\xff"]
    world.send([*values, *repeats, *broken])
    streams = world.build_streams()
    run_to_end(QueryGroup(world.session, [world.stream], streams.context))
    assert as_written(streams.rows("silver.orders")) == {each["order_id"]: each for each in sent}
    repeated = streams.rows("silver.deduplicated_orders", "select is_same_content from t")
    assert [row["is_same_content"] for row in repeated] == [True] * 20
    refused = streams.rows("silver.quarantined_orders", "select reason, value from t order by kafka_offset")
    assert [row["reason"] for row in refused] == [
        "not_framed", "tombstone", "not_decodable", "unknown_schema", "not_decodable",
    ]  # fmt: skip
    assert [row["value"] for row in refused] == broken
    audit = audit_stream(world.stream, world.lakehouse, world.kafka)
    assert audit.breaches == () and audit.totals["rows_in"] == 325
    for table in world.stream.tables:
        assert find_contract_breaches(DeltaTable(streams.context.table_uri(table.name)), table) == []
    said, *_ = explain([world.stream], world.lakehouse, world.kafka, event_id="o7")
    assert "accepted into silver.orders" in said


def test_schemas_change_while_the_stream_runs(world: World, running: StreamsUnderTest) -> None:
    """A compatible version goes on with no restart; one that the contract cannot read is quarantined."""
    _, first = avro(world.registry, world.subject, _FIELDS, "NONE")
    world.send([first(order(number)) for number in range(5)])
    wait_for_rows(running, "silver.orders", 5)

    wider = [*_FIELDS, {"name": "channel", "type": ["null", "string"], "default": None}]
    _, second = avro(world.registry, world.subject, wider)
    as_double = [field if field["name"] != "amount" else {"name": "amount", "type": "double"} for field in _FIELDS]
    broken_id, third = avro(world.registry, world.subject, as_double)
    in_double = third({**order(6), "amount": 6.06})
    world.send([second(order(5, channel="web")), in_double, first(order(7)), second(order(8, channel=None))])
    rows = wait_for_rows(running, "silver.orders", 8)
    unknown = {row["order_id"]: row["unknown_fields"] for row in rows if row["unknown_fields"]}
    assert {name: json.loads(text) for name, text in unknown.items()} == {
        "o5": {"channel": "web"},
        "o8": {"channel": None},
    }
    (refused,) = wait_for_rows(running, "silver.quarantined_orders", 1)
    assert refused["reason"] == "unreadable_schema"
    assert refused["detail"] == (
        f"schema {broken_id}: amount is a floating-point number, and the contract wants a decimal(12,2)"
    )


def test_a_registry_that_is_away_is_named_and_its_records_come_when_it_is_back(world: World) -> None:
    _, write = avro(world.registry, world.subject, _FIELDS)
    world.send([write(order(number)) for number in range(3)])
    streams = world.build_streams()
    assert streams.context.schemas is not None
    nobody = SchemaRegistry(RegistryAccess(("http://127.0.0.1:9",)), patience_seconds=0.2)
    away = dataclasses.replace(streams.context, schemas=SchemaSource(nobody))
    with pytest.raises(RegistryUnavailableError, match=r"127\.0\.0\.1:9"):
        run_to_end(QueryGroup(world.session, [world.stream], away))
    assert streams.rows("silver.orders") == []
    run_to_end(QueryGroup(world.session, [world.stream], streams.context))
    assert len(streams.rows("silver.orders")) == 3


def test_a_topic_without_a_registry_names_the_setting(world: World) -> None:
    lost = dataclasses.replace(world, settings=world.settings.model_copy(update={"schema_registry_url": ""}))
    with pytest.raises(SettingError, match="HEADRACE_SCHEMA_REGISTRY_URL"):
        lost.build_streams()


def _check_schemas(world: World) -> dg.AssetCheckResult:
    (check,) = build_schemas_checks([world.stream])
    resources = {"lakehouse": world.lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


class FreeOrder(Record):
    """The contract, changed so that it takes what the producers send."""

    order_id: str
    at: datetime
    customer: str
    amount: Annotated[Decimal, digits(12, 2)] = Decimal(0)
    lines: list[Line] = []
    note: str | None = None


def test_records_of_a_schema_that_the_contract_could_not_read_come_back_by_a_requeue(world: World) -> None:
    _, write = avro(world.registry, world.subject, [each for each in _FIELDS if each["name"] != "amount"])
    world.send([write(order(number)) for number in range(4)])
    streams = world.build_streams()
    run_to_end(QueryGroup(world.session, [world.stream], streams.context))
    refused = streams.rows("silver.quarantined_orders", "select reason, detail from t")
    assert {row["reason"] for row in refused} == {"unreadable_schema"} and len(refused) == 4
    assert "amount is missing" in refused[0]["detail"]
    before = _check_schemas(world)
    assert not before.passed and "4 records until" in str(before.description)
    assert "amount is missing, and the contract has no default for it" in str(before.description)
    changed = dataclasses.replace(world.stream, topic=dataclasses.replace(world.stream.topic, record=FreeOrder))
    requeuer = Requeuer(changed, streams.context)
    requeuer.commit(requeuer.plan(RecordFilter(frozenset({"unreadable_schema"})), "me", datetime.now(UTC)))
    assert _check_schemas(world).passed
    rows = streams.rows("silver.orders")
    assert {row["order_id"]: row["amount"] for row in rows} == {f"o{number}": Decimal(0) for number in range(4)}


def test_the_registrys_own_text_gives_the_reader_of_the_third_message(schema_registry: SchemaRegistry) -> None:
    """A registry may give back a text of its own making; the message index must still say the same type."""
    schema_id = schema_registry.register("third-message-value", "protobuf", _PROTO)
    found: RegisteredSchema = schema_registry(schema_id)
    index, body = read_protobuf(found).split(b"\x02\x04")
    assert (read_protobuf(found).find(index).shape.name, body) == ("shop.Order", b"")


def test_a_forgotten_user_leaves_no_value_that_a_schema_wrote(world: World) -> None:
    """Quarantined values are found by their schema, by their bytes where it cannot read them, and when they arrive."""
    user, other = str(uuid.UUID(int=77)), str(uuid.UUID(int=78))
    _, write = avro(world.registry, world.subject, _FIELDS)
    _, too_little = avro(world.registry, world.subject, [each for each in _FIELDS if each["name"] != "amount"], "NONE")
    sent = [
        value
        for number, name in enumerate((user, other))
        for value in (
            write(order(number, customer=name)),
            too_little(order(number + 10, customer=name)),
            write(order(number + 20, customer=name))[:-3],
        )
    ]
    world.send(sent)
    streams = world.build_streams()
    run_to_end(QueryGroup(world.session, [world.stream], streams.context))
    assert len(streams.rows("silver.quarantined_orders")) == 4
    erasure = Erasure(user, [world.stream], streams.context, "a test", "asked to")
    _, rows = erasure.take_out(world.session, lambda: None, lambda line: None)
    erasure.remove_files(lambda: None)
    assert (rows["silver.orders"], rows["silver.quarantined_orders"]) == (1, 2)
    assert {row["customer"] for row in streams.rows("silver.orders")} == {other}
    world.send(sent)
    run_to_end(QueryGroup(world.session, [world.stream], streams.context))
    proof = search_files(world.lakehouse, user, [world.stream.topic], streams.context.schemas)
    assert (proof.found, proof.files > 0) == ((), True)
    assert search_files(world.lakehouse, other, [world.stream.topic], streams.context.schemas).found
    assert len(streams.rows("silver.quarantined_orders")) == 4  # the other one's, twice
    erased = streams.rows("platform.erased_records", "select was, count(*) as n from t group by all")
    assert {row["was"]: row["n"] for row in erased} == {"accepted": 1, "quarantined": 2, "on_arrival": 3}
