"""Records that other implementations have written, read to the bit: tests/corpus says by whom, and how to add one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from platform_assets.streaming.formats.frame import HEADER_BYTES
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from tests.corpus.exact_values import find_difference, from_json

CORPUS = json.loads((Path(__file__).parents[1] / "corpus" / "records.json").read_text())
WRITERS = {"apicurio", "python", "plain", "plain blocks"}


def _find_schema(place: int) -> RegisteredSchema:
    of_format, text, references = CORPUS["schemas"][place]
    return RegisteredSchema(place, of_format, text, tuple(NamedSchema(*each) for each in references))


def _read(schema: RegisteredSchema, payload: bytes) -> dict[str, Any]:
    readers = compile_schema(schema)
    place, value = readers.split(payload)
    return readers.find(place).read(value)


@pytest.mark.parametrize("record", CORPUS["records"], ids=lambda record: f"{record['writer']}: {record['name']}")
def test_what_another_implementation_wrote_is_read_to_the_bit(record: dict[str, Any]) -> None:
    schema, payload = _find_schema(record["schema"]), bytes.fromhex(record["bytes"])[HEADER_BYTES:]
    if record["refused"]:
        with pytest.raises((SchemaError, UndecodableError), match=record["refused"]):
            _read(schema, payload)
        return
    readers = compile_schema(schema)
    place, value = readers.split(payload)
    reader, means = readers.find(place), from_json(record["means"])
    if readers.is_json:  # numbers are read with their digits as they were written
        means = json.loads(json.dumps(record["means"]), parse_float=Decimal)
    assert find_difference(_read(schema, payload), means) is None
    if reader.read_many is not None:
        many = reader.read_many([value, value])
        assert many is not None and find_difference(many, [means, means]) is None


def test_every_writer_is_in_the_corpus() -> None:
    assert {record["writer"] for record in CORPUS["records"]} == WRITERS
