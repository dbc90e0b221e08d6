"""The schema by which rows are written, in each format, and the function that writes them by it.

A format's library is imported when a schema of it is made. What a registry's readers are given stands in `readers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaFormat
from platform_assets.streaming.formats.shapes import Shape

WriteRow = Callable[[Mapping[str, Any]], bytes]
# A process writes a few topics.
_REMEMBERED_WRITERS = 64


@dataclass(frozen=True)
class WrittenSchema:
    """A schema of this project's own: the text for the registry, and what writes by it. May be sent to another process.

    `compiled`: the files of a Protobuf schema, so that only one process runs the compiler.
    """

    format: SchemaFormat
    shape: Shape
    text: str
    compiled: bytes = field(default=b"", repr=False)


@lru_cache(maxsize=_REMEMBERED_WRITERS)
def write_schema(shape: Shape, schema_format: SchemaFormat) -> WrittenSchema:
    """The schema of a record. Protobuf's is compiled, which takes about 0.1 s, once a process.

    Raises `SchemaError` for names that the format does not have.
    """
    match schema_format:
        case "avro":
            from platform_assets.streaming.formats.avro_writing import write_avro_schema

            return WrittenSchema("avro", shape, write_avro_schema(shape))
        case "protobuf":
            from platform_assets.streaming.formats.protobuf_writing import write_protobuf_schema

            text = write_protobuf_schema(shape)
            return WrittenSchema("protobuf", shape, text, _compile(text))
        case "json":
            from platform_assets.streaming.formats.json_writing import write_json_schema

            return WrittenSchema("json", shape, write_json_schema(shape))
    raise SchemaError(f"schemas in the format {schema_format} are not written")


@lru_cache(maxsize=_REMEMBERED_WRITERS)
def open_writer(schema: WrittenSchema) -> WriteRow:
    """The function from a row, a dict of plain Python values, to what stands behind the frame. Once a process.

    A column that a row does not have is null.
    """
    match schema.format:
        case "avro":
            from platform_assets.streaming.formats.avro_writing import open_avro_writer

            return open_avro_writer(schema.text)
        case "protobuf":
            from platform_assets.streaming.formats.protobuf_filling import open_protobuf_writer

            return open_protobuf_writer(schema.compiled, schema.shape)
        case "json":
            from platform_assets.streaming.formats.json_writing import open_json_writer

            return open_json_writer(schema.shape)


def _compile(text: str) -> bytes:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    from platform_assets.streaming.formats.protobuf_files import compile_files

    files = compile_files(RegisteredSchema(0, "protobuf", text))
    for file in files:
        file.ClearField("source_code_info")
    return FileDescriptorSet(file=files).SerializeToString()
