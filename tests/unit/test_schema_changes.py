"""Changes that Avro and a registry call compatible, and that change what old values mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from platform_assets.streaming.formats.avro_values import read_avro
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.formats.schema_changes import find_changed_meanings
from platform_assets.streaming.formats.shapes import Shape


def _shape(of: Any) -> Shape:
    schema = {"type": "record", "name": "Event", "fields": [{"name": "f", "type": of}]}
    return read_avro(RegisteredSchema(1, "avro", json.dumps(schema))).shape


def _long(logical: str) -> dict[str, str]:
    return {"type": "long", "logicalType": logical}


def _decimal(scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}


def _inner(of: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Inner", "fields": [{"name": "g", "type": of}]}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (_long("timestamp-millis"), _long("timestamp-micros"), ["f was a timestamp in ms and is a timestamp in us"]),
        (_long("timestamp-millis"), _long("local-timestamp-millis"),
         ["f was a timestamp in ms and is a local timestamp in ms"]),
        (["null", _decimal(2)], ["null", _decimal(4)], ["f was a decimal(9,2) and is a decimal(9,4)"]),
        (_decimal(2), ["null", _decimal(4)], ["f was a decimal(9,2) and is a decimal(9,4)"]),
        ("long", _long("timestamp-millis"), ["f was a whole number of 64 bits and is a timestamp in ms"]),
        ("int", {"type": "int", "logicalType": "date"}, ["f was a whole number of 32 bits and is a date"]),
        ("bytes", _decimal(0), ["f was bytes and is a decimal(9,0)"]),
        ({"type": "array", "items": _long("timestamp-millis")}, {"type": "array", "items": _long("timestamp-micros")},
         ["f[] was a timestamp in ms and is a timestamp in us"]),
        (_inner(_decimal(1)), _inner(_decimal(2)), ["f.g was a decimal(9,1) and is a decimal(9,2)"]),
        (_decimal(2), {**_decimal(2), "precision": 12}, []),
        ("int", ["null", "int"], []),
        ("string", "bytes", []),
        (_inner("int"), _inner(["null", "string"]), []),
        (["null", "string"], ["null", "string", "long"], []),
    ],
)  # fmt: skip
def test_what_old_values_mean_is_compared(old: Any, new: Any, said: list[str]) -> None:
    assert find_changed_meanings(_shape(old), _shape(new)) == said
