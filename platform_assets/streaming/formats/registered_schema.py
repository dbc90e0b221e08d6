"""A schema as the registry has it, whatever its format. Plain values: who fetches them stands in `resources`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

SchemaFormat: TypeAlias = Literal["avro", "protobuf", "json"]


@dataclass(frozen=True)
class NamedSchema:
    """A schema that others refer to: by an Avro full name, a path of a .proto file, or the URI of a JSON `$ref`."""

    name: str
    text: str


@dataclass(frozen=True)
class RegisteredSchema:
    """What an id stands for; it never changes. `references` are all that it needs, each before those that name it."""

    schema_id: int
    format: SchemaFormat
    text: str
    references: tuple[NamedSchema, ...] = ()


FetchSchema: TypeAlias = Callable[[int], RegisteredSchema]
"""Fetches a schema by its id, from any thread and in Spark's tasks.

Raises `UnknownSchemaError` where the registry has none of this id, `RegistryUnavailableError` where it does not answer,
and `RegistryRefusedError` where it refuses.
"""
