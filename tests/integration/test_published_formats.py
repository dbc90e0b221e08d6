"""Published topics by schemas of a real registry: what is registered, what is in the topic, and who refuses what."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import fastavro
import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition

from jobs.supervision.publish_target import Registrar, find_publish_target
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import RegistryUnavailableError, SchemaNotAcceptedError, TerminalError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import SchemaTarget
from platform_assets.streaming.stream_spec import KafkaStream, TableStream, select_derived, select_ingest
from platform_assets.streaming.topic_spec import EventTime, Record, RegistryValues, Topic, digits
from platform_assets.streams import load_streams
from platform_assets.streams.high_value_users import STREAM
from platform_assets.tables.spec import Column, TableSpec
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_watermarks import purchase

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

Format = Literal["avro", "protobuf", "json-schema"]
FORMATS: tuple[Format, ...] = ("avro", "protobuf", "json-schema")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

COLUMNS = (
    Column("order_id", "string", "Its id", nullable=False),
    Column("at", "timestamp", "When", nullable=False),
    Column("amount", "decimal(12,2)", "How much"),
    Column("large", "decimal(38,10)", "How much, exactly"),
    Column("pieces", "int", "How many"),
    Column("count", "bigint", "How many there were"),
    Column("weight", "double", "Kilograms"),
    Column("day", "date", "The day"),
    Column("token", "binary", "Bytes"),
    Column("is_paid", "boolean", "Whether"),
    Column("tags", "array<string>", "Words"),
    Column("prices", "map<string,decimal(12,2)>", "By what"),
    Column("place", "struct<city:string,zip:int>", "Where"),
    Column("lines", "array<struct<sku:string,pieces:int>>", "What"),
)
ORDERS = TableSpec("gold.orders", "Orders.", "order", ("order_id",), COLUMNS)
ROWS: list[dict[str, Any]] = [
    {
        "order_id": "ä-1", "at": NOON + timedelta(microseconds=123456), "amount": Decimal("12.30"),
        "large": Decimal("1234567890123456789012345678.0123456789"), "pieces": -(2**31), "count": 2**63 - 1,
        "weight": 0.1, "day": date(2024, 2, 29), "token": b"\0\xff", "is_paid": False, "tags": ["a", "", "ü"],
        "prices": {"a": Decimal("0.07"), "b": Decimal("-1.00")}, "place": {"city": "Köln", "zip": None},
        "lines": [{"sku": "s", "pieces": 1}, {"sku": "t", "pieces": 2}],
    },
    {**dict.fromkeys((column.name for column in COLUMNS), None), "order_id": "2", "at": NOON},
    {
        "order_id": "3", "at": NOON, "amount": Decimal("0.00"), "large": Decimal("0E-10"), "pieces": 0, "count": 0,
        "weight": 0.0, "day": date(1970, 1, 1), "token": b"", "is_paid": True, "tags": [], "prices": {},
        "place": {"city": "", "zip": 0}, "lines": [],
    },
]  # fmt: skip


class Place(Record):
    city: str | None = None
    zip: int | None = None


class Line(Record):
    sku: str | None = None
    pieces: int | None = None


class Order(Record):
    order_id: str
    at: datetime
    amount: Annotated[Decimal, digits(12, 2)] | None = None
    large: Annotated[Decimal, digits(38, 10)] | None = None
    pieces: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    count: int | None = None
    weight: float | None = None
    day: date | None = None
    token: bytes | None = None
    is_paid: bool | None = None
    tags: list[str] | None = None
    prices: dict[str, Annotated[Decimal, digits(12, 2)]] | None = None
    place: Place | None = None
    lines: list[Line] | None = None


class Tags(Record):
    items: list[str] = []
    nulls: list[int] = []


class Prices(Record):
    entries: dict[str, Annotated[Decimal, digits(12, 2)]] = {}
    nulls: list[str] = []


class Lines(Record):
    items: list[Line] = []
    nulls: list[int] = []


class ProtobufOrder(Order):
    """The same where a list that may be null is a message of its own."""

    tags: Tags | None = None  # type: ignore[assignment]
    prices: Prices | None = None  # type: ignore[assignment]
    lines: Lines | None = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class World:
    """A topic that a stream's rows are published to, and the registry."""

    session: SparkSession
    kafka: KafkaResource
    registry: SchemaRegistry
    lakehouse: LakehouseResource
    context: StreamContext
    topic: str

    def stream(self, spec: TableSpec = ORDERS) -> TableStream:
        return dataclasses.replace(STREAM, tables=(spec,), publish_topic=self.topic, write_mode="append", rule=None)

    def publish(self, rows: Sequence[dict[str, Any]], spec: TableSpec = ORDERS, removed: bool = False) -> None:
        publisher = KafkaPublisher(self.stream(spec), self.context)
        found = pa.Table.from_pylist(list(rows), build_arrow_schema(spec))
        publisher.publish(self.session, found, "7", 3, removed)

    def using(self, schema_format: Any, compatibility: Any = "BACKWARD", url: str = "") -> World:
        (known,) = self.registry.access.urls
        settings = Settings(
            home=Path(self.lakehouse.root), kafka_bootstrap_servers="", schema_registry_url=url or known,
            publish_format=schema_format, publish_compatibility=compatibility,
        )  # fmt: skip
        target = find_publish_target(settings)
        return dataclasses.replace(self, context=dataclasses.replace(self.context, publish_target=target))

    @property
    def subject(self) -> str:
        return f"{self.topic}-value"

    def read(self) -> list[tuple[Any, bytes | None, dict[str, str]]]:
        """(key, value, headers) of every record."""
        consumer = Consumer({**self.kafka.client_config(), "group.id": "test", "enable.auto.commit": False})
        (end,) = self.kafka.end_offsets(self.topic).values()
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        found: list[tuple[Any, bytes | None, dict[str, str]]] = []
        while len(found) < end:
            (record,) = consumer.consume(1, 30)
            value, headers = record.value(), dict(record.headers() or [])
            assert value is None or isinstance(value, bytes)
            texts = {name: text.decode() for name, text in headers.items() if isinstance(text, bytes)}
            found.append((json.loads(record.key() or b""), value, texts))
        consumer.close()
        return found


@pytest.fixture
def world(
    spark: SparkSession,
    kafka: KafkaResource,
    schema_registry: SchemaRegistry,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
) -> World:
    name = topic(1)
    context = build_stream_context(settings, kafka, lakehouse, [])
    context = dataclasses.replace(context, publish_topics=frozenset({name}))
    return World(spark, kafka, schema_registry, lakehouse, context, name)


@pytest.mark.parametrize("schema_format", FORMATS)
def test_rows_of_every_type_are_published_and_read_by_a_topic_of_the_platform(
    world: World, schema_format: Format, settings: Settings
) -> None:
    world = world.using(schema_format)
    world.publish(ROWS)
    found = world.read()
    assert sorted(key["order_id"] for key, _, _ in found) == sorted(row["order_id"] for row in ROWS)
    assert all(key.keys() == {"order_id"} for key, _, _ in found)
    assert {str(headers) for _, _, headers in found} == {
        str({"query": "high_value_users", "batch": "7", "version": "3"})
    }
    newest = world.registry.newest(world.subject)
    assert newest is not None and newest.version == 1
    assert {find_schema_id(value or b"") for _, value, _ in found} == {newest.schema.schema_id}
    assert newest.schema.format == ("json" if schema_format == "json-schema" else schema_format)
    assert world.registry.compatibility_mode(world.subject) == "BACKWARD"
    if schema_format == "avro":
        parsed = fastavro.parse_schema(json.loads(newest.schema.text))
        values = [io.BytesIO((value or b"")[HEADER_BYTES:]) for _, value, _ in found]
        assert by_id([fastavro.schemaless_reader(value, parsed, None) for value in values]) == by_id(ROWS)

    record = ProtobufOrder if schema_format == "protobuf" else Order
    read_by = Topic(
        name="orders", description="Orders.", kafka_topic=world.topic, record=record, event_time=EventTime("at"),
        event_id=("order_id",), values=RegistryValues(),
    )  # fmt: skip
    stream = KafkaStream(read_by, 0.0)
    (url,) = world.registry.access.urls
    reading = settings.model_copy(update={"schema_registry_url": url})
    context = build_stream_context(reading, world.kafka, world.lakehouse, [stream])
    run_to_end(QueryGroup(world.session, [stream], context))
    streams = StreamsUnderTest(world.session, world.kafka, context)
    assert streams.rows("silver.quarantined_orders") == []
    rows = streams.rows("silver.orders")
    assert by_id([as_published(row, record) for row in rows]) == by_id(ROWS)
    audit = audit_stream(stream, world.lakehouse, world.kafka)
    assert audit.breaches == () and audit.totals["rows_in"] == len(ROWS)

    world.publish(ROWS[:1], removed=True)
    assert world.read()[-1][:2] == ({"order_id": "ä-1"}, None)


def by_id(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["order_id"]))


def as_published(row: dict[str, Any], record: type[Record]) -> dict[str, Any]:
    found = {name: row["event_time" if name == "at" else name] for name in ROWS[0]}
    if record is ProtobufOrder:
        for name in ("tags", "prices", "lines"):
            assert found[name] is None or found[name]["nulls"] == []
            found[name] = found[name] and found[name]["entries" if name == "prices" else "items"]
    if found["prices"] is not None:
        found["prices"] = dict(found["prices"])
    return found


@pytest.mark.parametrize("schema_format", FORMATS)
def test_a_new_column_is_a_version_and_another_type_is_refused(world: World, schema_format: Format) -> None:
    world = world.using(schema_format)
    world.publish(ROWS)
    world.publish(ROWS[:1])
    wider = dataclasses.replace(ORDERS, columns=(*COLUMNS, Column("note", "string", "Said")))
    world.publish([{**ROWS[0], "note": "new"}], wider)
    assert world.registry.versions(world.subject) == (1, 2)
    newest = world.registry.newest(world.subject)
    assert newest is not None
    *_, (_, value, _) = found = world.read()
    assert find_schema_id(value or b"") == newest.schema.schema_id
    readers = compile_schema(newest.schema)
    place, payload = readers.split((value or b"")[HEADER_BYTES:])
    assert readers.find(place).read(payload)["note"] == "new"

    changed = tuple(
        dataclasses.replace(column, type="string") if column.name == "count" else column for column in COLUMNS
    )
    with pytest.raises(SchemaNotAcceptedError, match=world.subject) as refusal:
        world.publish([{**ROWS[0], "count": "many"}], dataclasses.replace(ORDERS, columns=changed))
    assert isinstance(refusal.value, TerminalError)
    assert len(world.read()) == len(found)


def test_a_subjects_own_mode_is_left_alone(world: World) -> None:
    world.registry.set_compatibility(world.subject, "NONE")
    world.using("avro", "UNCHANGED").publish(ROWS)
    assert world.registry.compatibility_mode(world.subject) == "NONE"
    world.using("avro", "FULL").publish(ROWS)
    assert world.registry.compatibility_mode(world.subject) == "FULL"


@pytest.mark.parametrize("mode", ["NONE", "BACKWARD"])
def test_another_format_needs_another_subject(world: World, mode: str) -> None:
    world.using("avro", mode).publish(ROWS)
    found = world.read()
    for other in ("protobuf", "json-schema"):
        with pytest.raises(SchemaNotAcceptedError, match=world.subject):
            world.using(other, mode).publish(ROWS)
    assert world.read() == found


def test_nothing_is_published_while_the_registry_is_away(world: World) -> None:
    away = world.using("avro", url="http://127.0.0.1:9")
    target = away.context.publish_target
    assert target is not None and isinstance(target.register, Registrar)
    impatient = dataclasses.replace(target.register.registry, patience_seconds=0.0)
    target = SchemaTarget("avro", Registrar(impatient, "BACKWARD"))
    away = dataclasses.replace(away, context=dataclasses.replace(away.context, publish_target=target))
    with pytest.raises(RegistryUnavailableError):
        away.publish(ROWS)
    away.publish(ROWS, removed=True)
    assert [value for _, value, _ in world.read()] == [None] * len(ROWS)


def test_a_stream_publishes_by_its_schema_and_stops_for_good_when_it_is_refused(
    world: World, kafka: KafkaResource, settings: Settings, topic: Callable[..., str]
) -> None:
    streams = StreamsUnderTest.build(world.session, kafka, world.lakehouse, settings, topic(1))
    streams.send([purchase(1, NOON, revenue=150.0)])
    (events,) = select_ingest(load_streams())
    (users,) = (stream for stream in select_derived(load_streams()) if stream.name == "high_value_users")
    users = dataclasses.replace(users, publish_topic=world.topic)
    target = world.using("avro").context.publish_target
    context = dataclasses.replace(streams.context, publish_topics=frozenset({world.topic}), publish_target=target)
    world.registry.register(world.subject, "avro", '"string"', compatibility="BACKWARD")
    with pytest.raises(SchemaNotAcceptedError, match=f"{world.subject}.*compatib"):
        run_to_end(QueryGroup(streams.session, [events, users], context))
    assert world.read() == []

    # What was committed before the refusal is published when the schema is accepted.
    world.registry.set_compatibility(world.subject, "NONE")
    target = world.using("avro", "UNCHANGED").context.publish_target
    context = dataclasses.replace(context, publish_target=target)
    run_to_end(QueryGroup(streams.session, [events, users], context))
    newest = world.registry.newest(world.subject)
    assert newest is not None
    read = compile_schema(newest.schema).find(()).read
    found = [read((value or b"")[HEADER_BYTES:]) for _, value, _ in world.read()]
    found.sort(key=lambda row: row["window_start"])
    assert found == streams.rows("gold.high_value_users", "select * from t order by window_start")
    assert len(found) == 5
