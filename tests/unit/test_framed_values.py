"""Simulated records by a schema of their contract: what a topic of a registry reads is what the JSON said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from jobs.simulator.by_contract.contract_topic import ContractTopic, build_profile
from jobs.simulator.framed_values import FramedValues, frame_records
from jobs.simulator.simulated_topic import CompanionRecord
from jobs.simulator.simulated_topics import NAMED, SHOP, Simulation, find_simulation
from platform_assets.errors import UsageError
from platform_assets.streaming.compression import compress, decompress
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.plain_values import plan_adaptation, write_json
from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaFormat, SchemaTarget
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.topic_spec import (
    EventTime,
    JsonValues,
    Record,
    RegistryValues,
    TextLines,
    Topic,
    digits,
    epoch,
    time_format,
)
from tests.orders import TOPIC as ORDERS

FORMATS: tuple[SchemaFormat, ...] = ("avro", "protobuf", "json")
START = 1_772_366_400_000_000
HOUR = 3_600_000_000


class Kind(Enum):
    SALE = "sale"
    RETURN = "return"


class Stop(Record):
    city: str
    zip: int | None = None
    weight: float = 1.5


class Parcel(Record):
    parcel_id: str
    at: datetime
    client: int
    kind: Kind
    price: Annotated[Decimal, digits(20, 4)]
    pieces: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 1
    level: Annotated[int, Meta(ge=-5, le=5)] = 3
    stops: list[Stop] = []
    tags: list[str] = []
    labels: dict[str, float] = {}
    fees: dict[str, Annotated[Decimal, digits(8, 2)]] = {}
    first: Stop | None = None
    day: date | None = None
    paid_at: datetime | None = None
    seen: Annotated[int, epoch("ms")] | None = None
    printed: Annotated[str, time_format("%d.%m.%Y %H:%M")] | None = None
    is_gift: bool = True
    signature: bytes | None = None
    note: str = "none"
    device: str | None = msgspec.field(name="client_app.device", default=None)
    version: int | None = msgspec.field(name="client_app.inner.version", default=None)


PARCELS = Topic(
    name="parcels", description="Parcels.", kafka_topic="parcels", record=Parcel, event_time=EventTime("at"),
    event_id=("parcel_id",), subject="client", event_type="kind", values=RegistryValues(),
)  # fmt: skip


class Registry:
    """Keeps what is registered; each schema has an id of its own."""

    def __init__(self, schema_format: SchemaFormat) -> None:
        self.schemas: dict[int, RegisteredSchema] = {}
        self.subjects: list[str] = []
        self.target = SchemaTarget(schema_format, self.register)

    def register(self, subject: str, schema_format: SchemaFormat, text: str) -> int:
        self.subjects.append(subject)
        number = len(self.subjects)
        self.schemas[number] = RegisteredSchema(number, schema_format, text)
        return number


def open_reader(registry: Registry, topic: Topic) -> Callable[[bytes | None], Any]:
    """Reads a value as the stream of a topic of a registry does: the record, or why there is none."""
    by_schema = dataclasses.replace(topic, values=RegistryValues())
    contract = compile_contract(by_schema)

    def read(value: bytes | None) -> Any:
        if value is None or (schema_id := find_schema_id(value)) is None:
            return "not_framed"
        readers = compile_schema(registry.schemas[schema_id])
        try:
            place, payload = readers.split(value[HEADER_BYTES:])
            reader = readers.find(place)
            assert find_misfits(reader.shape, by_schema) == []
            text = payload
            if not readers.is_json:
                plain = reader.read(payload)
                plan_adaptation(reader.shape, by_schema).apply([plain])
                text = write_json(plain)
            return contract.parse(text, 1_048_576, START + HOUR, EventRules()).record
        except UndecodableError as error:
            return f"not_decodable: {error}"
        except RejectedRecordError as error:
            return error.reason

    return read


def read_json(topic: Topic, value: bytes | None) -> Any:
    try:
        found = compile_contract(topic).parse(value, 1_048_576, START + HOUR, EventRules()).record
    except RejectedRecordError as error:
        return error.reason
    # The digits are judged where the record becomes columns.
    amount = getattr(found, "amount", None)
    return "wrong_type" if isinstance(amount, Decimal) and amount != round(amount, 2) else found


def make(simulation: Simulation | None, topic: Topic, malformed: float) -> list[bytes | None]:
    if simulation is None:
        profile = build_profile(topic, by_schema=True)(unknown_fields=0.1).with_malformed(malformed)
        return [value for _, _, value in ContractTopic(profile, 5).history(START, START + HOUR, 400 / 3600)]
    shop = simulation.profile(unknown_fields=0.1).with_malformed(malformed)
    return [value for _, _, value in simulation.open(shop, 5).history(START, START + HOUR, 400 / 3600)]


CASES = [(None, PARCELS), (SHOP, SHOP.load_contract()), (NAMED["transactions"], NAMED["transactions"].load_contract())]


@pytest.mark.parametrize("schema_format", FORMATS)
@pytest.mark.parametrize(("simulation", "topic"), CASES, ids=["parcels", "shop", "payments"])
def test_what_is_read_by_the_schema_is_what_the_json_said(
    simulation: Simulation | None, topic: Topic, schema_format: SchemaFormat
) -> None:
    registry = Registry(schema_format)
    framed = FramedValues(topic, "parcels-1", registry.target)
    read = open_reader(registry, topic)
    made = make(simulation, topic, 0.3)
    reasons: set[str] = set()
    for value in made:
        expected, found = read_json(topic, value), read(framed.write(value))
        if not isinstance(expected, str):
            assert found == expected
            continue
        # A malformed record is refused all the same; where its type has a place for it, for the same reason.
        assert found in (expected, "not_framed"), (value, expected, found)
        reasons.add(found)
    assert len(made) > 200 and len(reasons) > 2
    assert registry.subjects == ["parcels-1-value"]
    malformed = sum(isinstance(read_json(topic, value), str) for value in made)
    assert 0 < framed.unframed < malformed


def test_defaults_of_the_contract_are_written_where_a_field_is_absent() -> None:
    document = b'{"parcel_id":"p","at":"2026-03-01T12:00:00Z","client":1,"kind":"sale","price":1}'
    for schema_format in FORMATS:
        registry = Registry(schema_format)
        found = open_reader(registry, PARCELS)(FramedValues(PARCELS, "p", registry.target).write(document))
        assert found == read_json(PARCELS, document)
        assert (found.level, found.is_gift, found.note) == (3, True, "none")


def test_a_frame_is_written_inside_of_what_is_compressed() -> None:
    plain = FramedValues(PARCELS, "p", Registry("avro").target)
    packed = FramedValues(dataclasses.replace(PARCELS, compression="gzip"), "p", Registry("avro").target)
    for value in (b"no parcel", *filter(None, make(None, PARCELS, 0.0)[:3])):
        assert decompress(packed.write(compress(value, "gzip")) or b"", "gzip", 10_000) == plain.write(value)
    assert (packed.write(None), packed.unframed) == (None, 1)


def test_records_of_the_companion_topic_have_its_schema() -> None:
    registry = Registry("avro")
    payments = NAMED["transactions"]
    assert payments.load_companion_contract is not None
    reports = payments.load_companion_contract()
    own = FramedValues(payments.load_contract(), "pay", registry.target)
    values = {"pay": own, "told": FramedValues(reports, "told", registry.target)}
    assert registry.subjects == ["pay-value", "told-value"]
    run = payments.open(payments.profile().with_rates({"fraud": 0.3, "report_hours": 0.001}), 1)
    run.accompany("told")
    records = list(frame_records(run.history(START, START + HOUR, 1.0), "pay", values))
    told = [record for record in records if isinstance(record, CompanionRecord)]
    assert told and {record.topic for record in told} == {"told"}
    read = open_reader(registry, reports)
    assert all(isinstance(read(value), reports.record) for _, _, value in told)
    assert [sent_at for sent_at, _, _ in records] == sorted(sent_at for sent_at, _, _ in records)


class Odd(Record):
    at: datetime
    parts: list[str | None] = []
    rows: list[list[int]] = []


ODD = Topic(name="odd", description="Odd.", kafka_topic="odd", record=Odd, event_time=EventTime("at"))
LINES = dataclasses.replace(ODD, record=Stop, event_time=EventTime("city"), values=TextLines("(?P<city>.*)"))


@pytest.mark.parametrize(
    ("topic", "schema_format", "said"),
    [
        (ORDERS, "avro", "Avro has no field of the name 'order-number'"),
        (ODD, "protobuf", "parts may have null in it"),
        (LINES, "avro", "lists or lines of text"),
        (dataclasses.replace(ODD, values=JsonValues(is_list=True)), "json", "lists or lines of text"),
    ],
)
def test_what_a_schema_has_no_place_for_is_named(topic: Topic, schema_format: SchemaFormat, said: str) -> None:
    registry = Registry(schema_format)
    with pytest.raises(UsageError, match=said):
        FramedValues(topic, "t", registry.target)
    assert registry.subjects == []


def test_nested_lists_and_nulls_are_written_where_the_format_has_them() -> None:
    document = b'{"at":"2026-03-01T12:00:00Z","parts":["a",null],"rows":[[1],[]]}'
    formats: tuple[SchemaFormat, ...] = ("avro", "json")
    for schema_format in formats:
        registry = Registry(schema_format)
        found = open_reader(registry, ODD)(FramedValues(ODD, "t", registry.target).write(document))
        assert found == Odd(datetime(2026, 3, 1, 12, tzinfo=UTC), ["a", None], [[1], []])


def test_a_topic_of_a_registry_is_simulated_by_a_schema_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_assets.topics.load_topics", lambda: (PARCELS,))
    with pytest.raises(UsageError, match=r"written by schemas of a registry.*--encoding avro"):
        find_simulation("parcels")
    found = find_simulation("parcels", by_schema=True)
    assert found.load_contract() is PARCELS


class Tagged(Record):
    at: datetime
    tags: list[str] | None = None


def test_a_list_that_is_null_is_empty_in_protobuf() -> None:
    topic = dataclasses.replace(ODD, record=Tagged)
    for schema_format in FORMATS:
        registry = Registry(schema_format)
        value = FramedValues(topic, "t", registry.target).write(b'{"at":"2026-03-01T12:00:00Z","tags":null}')
        assert open_reader(registry, topic)(value).tags == ([] if schema_format == "protobuf" else None)
