"""`headrace check-contract` on a topic that takes fields out of headers. The registry's answers are given by hand."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jobs.operations.check_contract import Said, check_contract
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.topic_spec import RegistryValues
from resources.registry.schema_registry import SubjectVersion
from tests.unit.test_headers_of_formats import READING_SCHEMA
from tests.unit.test_record_headers import READINGS

TOPIC = dataclasses.replace(READINGS, values=RegistryValues())


class OneVersion:
    """What a registry says of a subject with one version."""

    def __init__(self, text: str) -> None:
        self._text = text

    def versions(self, subject: str) -> tuple[int, ...]:
        return (1,)

    def version(self, subject: str, number: int) -> SubjectVersion | None:
        return SubjectVersion(subject, number, RegisteredSchema(7, "avro", self._text))


def say(*names: str) -> list[Said]:
    fields = [*READING_SCHEMA["fields"], *({"name": name, "type": ["null", "string"]} for name in names)]
    registry = OneVersion(json.dumps({**READING_SCHEMA, "fields": fields}))
    return [each for each in check_contract(TOPIC, registry, None, kafka_topic="r") if "more" not in each.text]


def test_columns_that_headers_fill_are_not_called_empty() -> None:
    assert say() == []


@pytest.mark.parametrize("names", [("tenant",), ("attempt",), ("attempt", "tenant")])
def test_a_schema_that_has_a_headers_field_fails(names: tuple[str, ...]) -> None:
    (said,) = say(*names)
    assert said.is_failure and f"has {', '.join(names)}, which the topic takes from a header" in said.text
