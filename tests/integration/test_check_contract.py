"""`headrace check-contract` against a real registry: what fails, what is a note, and which versions count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.operations.check_contract import Said, check_contract, choose_topics, read_held_ids
from platform_assets.errors import UsageError
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.topic_spec import JsonValues, RegistryValues, Topic
from resources.kafka import KafkaResource
from resources.registry.schema_registry import SchemaRegistry
from tests.unit.test_registry_values import TOPIC, schema_of

_EXTRA = {"channel": ["null", "string"]}


def _check(registry: SchemaRegistry, name: str, held: frozenset[int] | None = None) -> list[Said]:
    topic = dataclasses.replace(TOPIC, kafka_topic=name)
    return check_contract(topic, registry, held, kafka_topic=name)


def _register(registry: SchemaRegistry, name: str, **types: Any) -> int:
    return registry.register(f"{name}-value", "avro", schema_of(**types), compatibility="NONE")


def test_versions_that_can_be_read_have_notes_only(schema_registry: SchemaRegistry, topic: Callable[..., str]) -> None:
    name = topic(1)
    _register(schema_registry, name)
    newest = _register(schema_registry, name, **_EXTRA, note=None)
    named = f"{name}-value version 2 (schema {newest})"
    assert _check(schema_registry, name) == [
        Said(f"{named} has channel, which the contract has not: kept in unknown_fields"),
        Said(f"{named} has no note: these columns stay empty"),
    ]


def test_what_fails_is_named_and_old_versions_count_while_kafka_holds_them(
    schema_registry: SchemaRegistry, kafka: KafkaResource, topic: Callable[..., str]
) -> None:
    name = topic(1)
    broken = _register(schema_registry, name, amount="double")
    millis = _register(schema_registry, name)
    micros = _register(schema_registry, name, at={"type": "long", "logicalType": "timestamp-micros"})
    as_double = Said(
        f"{name}-value version 1 (schema {broken}): amount is a floating-point number, and the contract wants a "
        "decimal(12,2)", is_failure=True,
    )  # fmt: skip
    changed = Said(
        f"{name}-value version 2 (schema {millis}) and {name}-value version 3 (schema {micros}): "
        "at was a timestamp in ms and is a timestamp in us", is_failure=True,
    )  # fmt: skip
    assert _check(schema_registry, name) == [as_double, changed]
    producer = kafka.producer()
    for value in (frame(micros, b"x"), frame(millis, b"x"), b"", None, b"{}"):
        producer.produce(name, value=value)
    assert producer.flush(30) == 0
    held = read_held_ids(kafka, name)
    assert held == {micros, millis}
    assert _check(schema_registry, name, held) == [changed]
    assert _check(schema_registry, name, frozenset()) == []


def test_a_subject_that_is_missing_fails(schema_registry: SchemaRegistry) -> None:
    assert _check(schema_registry, "nobody") == [Said("the registry has no subject nobody-value", is_failure=True)]


def test_subjects_may_be_named(schema_registry: SchemaRegistry, topic: Callable[..., str]) -> None:
    name = topic(1)
    schema_registry.register(
        f"shop.{name}", "json", json.dumps({"type": "object", "properties": {"order_id": {"type": "integer"}}})
    )
    found = check_contract(
        dataclasses.replace(TOPIC, values=RegistryValues((f"shop.{name}",))), schema_registry, None, kafka_topic=name
    )
    (failure,) = (each.text for each in found if each.is_failure)
    assert failure.endswith("order_id is a whole number of 64 bits, and the contract wants a text")


def test_topics_are_chosen_by_name() -> None:
    plain: Topic = dataclasses.replace(TOPIC, name="plain", values=JsonValues())
    assert choose_topics([plain, TOPIC], ()) == [TOPIC]
    assert choose_topics([plain, TOPIC], ["orders"]) == [TOPIC]
    with pytest.raises(UsageError, match="plain is no topic"):
        choose_topics([plain, TOPIC], ["plain"])
