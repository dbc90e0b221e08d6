"""What a raw value says in JSON or text, whatever a topic's contract says of it: to look for a name in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from platform_assets.errors import UnknownSchemaError
from platform_assets.streaming.compression import Compression, decompress_part
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.plain_values import write_json
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.topic_spec import Topic

# Of a small value that is a gigabyte when it is decompressed, so much is searched: more than Kafka takes in one record.
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Form:
    """What a raw value is when it is unpacked, and the JSON that it stands for, where a schema wrote it."""

    unpacked: bytes
    json: bytes | None


ReadForm: TypeAlias = Callable[[bytes], Form | None]
"""Gives the form of a raw value; None for one that is not packed, and that no schema wrote."""


def find_read_form(topics: Iterable[Topic], source: SchemaSource | None) -> ReadForm:
    """Reads values of any of these topics; those of a registry by the schemas of `source`.

    `source.unresolved` stay unknown. The reader raises what `source.fetch` raises where the registry does not answer,
    or refuses, also where records of unknown schemas are quarantined: what is not read could be somebody's.
    """
    chosen = list(topics)
    codecs = tuple(sorted({topic.compression for topic in chosen if topic.compression is not None}))
    own = source if any(topic.is_registered for topic in chosen) else None
    return partial(_read_form, codecs, own) if codecs or own is not None else find_no_form


def find_no_form(value: bytes) -> Form | None:
    """The form of any value of topics whose values are not packed in any way."""
    return None


def _read_form(codecs: tuple[Compression, ...], source: SchemaSource | None, value: bytes) -> Form | None:
    found = (decompress_part(value, codec, _MOST_BYTES) for codec in codecs)
    unpacked = next((part for part in found if part is not None), None)
    json = None if source is None else _read_json(source, value if unpacked is None else unpacked)
    return None if unpacked is None and json is None else Form(value if unpacked is None else unpacked, json)


def _read_json(source: SchemaSource, value: bytes) -> bytes | None:
    schema_id = find_schema_id(value)
    if schema_id is None or schema_id in (source.unresolved or ()):
        return None
    try:
        readers = compile_schema(source.fetch(schema_id))
        place, payload = readers.split(value[HEADER_BYTES:])
        return payload if readers.is_json else write_json(readers.find(place).read(payload))
    except (SchemaError, UndecodableError, UnknownSchemaError):
        return None
