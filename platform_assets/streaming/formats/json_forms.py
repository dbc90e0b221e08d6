"""The JSON form of a framed value by the schema of its writer alone, whatever a topic's contract says of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from platform_assets.errors import UnknownSchemaError
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.plain_values import write_json
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import SchemaSource

ReadForm: TypeAlias = Callable[[bytes], bytes | None]
"""Gives the JSON that a value stands for; None for bytes that are no value of a schema which the registry has."""


def find_read_form(source: SchemaSource | None) -> ReadForm:
    """Reads by the schemas of a source; without one no value has a form.

    `source.unresolved` stay unknown. The reader raises what `source.fetch` raises where the registry does not answer, or
    refuses, also where records of unknown schemas are quarantined: what is not read could be somebody's.
    """
    return find_no_form if source is None else partial(_read_form, source)


def find_no_form(value: bytes) -> bytes | None:
    """The form of any value where no topic has a registry."""
    return None


def _read_form(source: SchemaSource, value: bytes) -> bytes | None:
    schema_id = find_schema_id(value)
    if schema_id is None or schema_id in (source.unresolved or ()):
        return None
    try:
        readers = compile_schema(source.fetch(schema_id))
        place, payload = readers.split(value[HEADER_BYTES:])
        return payload if readers.is_json else write_json(readers.find(place).read(payload))
    except (SchemaError, UndecodableError, UnknownSchemaError):
        return None
