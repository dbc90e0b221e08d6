"""The readers of a schema, by its format. A format's library is imported when a schema of it comes."""

from __future__ import annotations

from platform_assets.streaming.formats.reader import SchemaError, SchemaReaders, ValueReader
from platform_assets.streaming.formats.registered_schema import RegisteredSchema


def compile_schema(schema: RegisteredSchema) -> SchemaReaders:
    """The readers of a schema. Takes milliseconds: a process does it once for an id. Raises `SchemaError`."""
    match schema.format:
        case "avro":
            from platform_assets.streaming.formats.avro_values import read_avro

            reader = read_avro(schema)
            return SchemaReaders(lambda payload: ((), payload), lambda place: reader, usual=((), b""))
        case "protobuf":
            from platform_assets.streaming.formats.message_index import FIRST, write_index
            from platform_assets.streaming.formats.protobuf_schema import read_protobuf

            found = read_protobuf(schema)
            places = tuple(place for place, _ in found.list_types())
            return SchemaReaders(found.split, found.find, places=places, usual=(FIRST, write_index(FIRST)))
        case "json":
            from platform_assets.streaming.formats.json_schema import read_json_schema

            document = read_json_schema(schema)
            as_text = ValueReader(document.shape, document.read, validate=document.validate)
            return SchemaReaders(lambda payload: ((), payload), lambda place: as_text, is_json=True)
    raise SchemaError(f"schemas in the format {schema.format} cannot be read")
