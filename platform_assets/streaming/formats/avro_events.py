"""CloudEvents in their structured mode as Avro: `application/cloudevents+avro`, by the specification's own schema.

That schema holds itself, for its data may be any JSON. A value could be nested so deeply that the stack of fastavro's
compiled functions ends, and the process with it. So the schema is written out to a depth that no document has; what is
deeper is refused. The bytes are the same: names of types are not in them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from platform_assets.streaming.formats.avro_schema import OWN, TRAPS
from platform_assets.streaming.formats.avro_values import read_exactly, register_types
from platform_assets.streaming.formats.reader import UndecodableError

# Each level is an object, or an array of objects.
_DEPTH = 64
# No value has so many bytes: one that gets there is nested too deeply.
_END = {"type": "fixed", "name": "End", "size": 2**31 - 1}


def read_avro_event(value: bytes) -> tuple[dict[str, Any], Any]:
    """The attributes of an event, and its data: bytes, or what JSON means; None where there is none.

    Raises `UndecodableError`, whatever the bytes.
    """
    import fastavro

    found = read_exactly(value, fastavro.schemaless_reader, _parse_schema())
    return found["attribute"], _as_json(found["data"])


@lru_cache(maxsize=1)
def _parse_schema() -> Any:
    import fastavro

    register_types(())
    plain, ends = ["null", "boolean"], ["double", "string", *TRAPS]
    below: Any = _END
    for level in range(_DEPTH, 0, -1):
        objects = [{"type": "map", "values": below}, {"type": "array", "items": below["name"]}]
        member = {"name": "value", "type": {"type": "map", "values": [*plain, *objects, *ends]}}
        below = {"type": "record", "name": f"Data{level}", "fields": [member]}
    members = {"type": "map", "values": [*plain, below, *ends]}
    data = ["bytes", *plain, members, {"type": "array", "items": below["name"]}, *ends]
    whole = {"type": "int", "logicalType": f"{OWN}int"}
    attribute = {"type": "map", "values": [*plain, whole, "string", "bytes", *TRAPS]}
    fields = [{"name": "attribute", "type": attribute}, {"name": "data", "type": data}]
    return fastavro.parse_schema({"type": "record", "name": "CloudEvent", "fields": fields})


def _as_json(data: Any) -> Any:
    """The data as JSON has it. Where it has members or items, each of them that is no plain value is a record."""
    if isinstance(data, dict):
        return {name: _read_record(each) if isinstance(each, dict) else _check(each) for name, each in data.items()}
    return [_read_record(each) for each in data] if isinstance(data, list) else _check(data)


def _read_record(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _read_member(each) for name, each in record["value"].items()}


def _read_member(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _read_record(each) for name, each in found.items()}
    return [_read_record(each) for each in found] if isinstance(found, list) else _check(found)


def _check(found: Any) -> Any:
    if isinstance(found, float) and not math.isfinite(found):
        raise UndecodableError(f"{found} is no number of JSON's")
    return found
