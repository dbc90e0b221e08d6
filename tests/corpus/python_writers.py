"""Writes records by the serializers of Confluent's client for Python, which stands on librdkafka."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def write_record(record: Mapping[str, Any], address: str) -> bytes:
    """The bytes of a record, in its frame. `record` is as `java_writers` has it. Raises what the serializer raises."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.serialization import MessageField, SerializationContext

    client = SchemaRegistryClient({"url": address})
    serialize, value = _find_serializer(record, client)
    written: bytes = serialize(value, SerializationContext(record["topic"], MessageField.VALUE))
    return written


def _find_serializer(record: Mapping[str, Any], client: Any) -> tuple[Any, Any]:
    """The serializer of a record's format, and the value that it takes."""
    if record["format"] == "avro":
        from confluent_kafka.schema_registry.avro import AvroSerializer

        referenced = map(json.loads, record["references"])
        named = {f"{schema['namespace']}.{schema['name']}": schema for schema in referenced}
        schema = json.loads(record["schema"])
        _name_all(schema, named, "")
        value = _to_avro(schema, record["value"], named)
        if not record["references"]:
            return AvroSerializer(client, record["schema"]), value
        latest = {"auto.register.schemas": False, "use.latest.version": True}
        return AvroSerializer(client, None, conf=latest), value
    if record["format"] == "json":
        from confluent_kafka.schema_registry.json_schema import JSONSerializer

        return JSONSerializer(record["schema"], client), record["value"]
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer

    message = _to_message(record)
    return ProtobufSerializer(type(message), client, {"use.deprecated.format": False}), message


def _to_message(record: Mapping[str, Any]) -> Any:
    import base64

    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(record["descriptors"])).file:
        pool.Add(file)
    package = pool.FindFileByName(record["file"]).package
    of = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{record['message']}"))
    return json_format.ParseDict(record["value"], of(), descriptor_pool=pool)


def _name_all(schema: Any, named: dict[str, Any], space: str) -> None:
    """Adds the types that a schema defines, by their full names."""
    if isinstance(schema, list):
        for branch in schema:
            _name_all(branch, named, space)
    elif isinstance(schema, dict):
        if "name" in schema:
            space = schema["name"].rpartition(".")[0] or schema.get("namespace", space)
            named[_full(schema["name"], space)] = schema
        for inside in (
            *(field["type"] for field in schema.get("fields", ())),
            schema.get("items"),
            schema.get("values"),
        ):
            _name_all(inside, named, space)


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _to_avro(schema: Any, given: Any, named: dict[str, Any], space: str = "") -> Any:
    """fastavro's value of one that is given as JSON, as `WriteRecords.java` has it for Java."""
    if isinstance(schema, list):
        if given is None:
            return None
        branch = schema[given[0]]
        value = _to_avro(branch, given[1], named, space)
        if isinstance(branch, dict) and "name" not in branch:
            return value
        name = branch if isinstance(branch, str) else branch["name"]
        return (_full(name, space) if _full(name, space) in named else name, value)
    if isinstance(schema, str):
        found = named.get(_full(schema, space), named.get(schema))
        return given if found is None and schema != "bytes" else _to_plain(schema, given, found, named, space)
    return _to_plain(schema["type"], given, schema, named, space)


def _to_plain(kind: str, given: Any, schema: Any, named: dict[str, Any], space: str) -> Any:
    if schema is not None and "name" in schema:
        space = schema["name"].rpartition(".")[0] or schema.get("namespace", space)
        kind = schema["type"]
    if (
        schema is not None
        and kind != "string"
        and isinstance(given, str)
        and (read := _LOGICAL.get(schema.get("logicalType", "")))
    ):
        value = read(given)
        return value.bytes if kind == "fixed" and isinstance(value, uuid.UUID) else value
    match kind:
        case "record":
            return {field["name"]: _to_avro(field["type"], given[field["name"]], named, space)
                    for field in schema["fields"]}  # fmt: skip
        case "array":
            return [_to_avro(schema["items"], item, named, space) for item in given]
        case "map":
            return {key: _to_avro(schema["values"], item, named, space) for key, item in given.items()}
        case "bytes" | "fixed":
            return bytes.fromhex(given)
        case "float" | "double":
            return float(given)
    return given


_LOGICAL: Mapping[str, Any] = {
    "decimal": Decimal, "date": date.fromisoformat, "time-millis": time.fromisoformat,
    "time-micros": time.fromisoformat, "timestamp-millis": datetime.fromisoformat,
    "timestamp-micros": datetime.fromisoformat, "local-timestamp-millis": datetime.fromisoformat,
    "local-timestamp-micros": datetime.fromisoformat, "uuid": uuid.UUID,
}  # fmt: skip
