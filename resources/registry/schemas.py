"""Schemas as a registry's answers give them: a text, its format, and references that are to be resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from platform_assets.errors import UnknownSchemaError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema, SchemaFormat
from resources.registry.access import RegistryAccess
from resources.registry.http import call

# Each reference is a request, and a chain of them calls within calls: Python ends at a thousand of those.
_MOST_REFERENCES = 300
# The registry's codes for what it does not have: a subject, a version, a schema.
UNKNOWN_CODES = range(40400, 40500)
_TYPES: dict[SchemaFormat, str] = {"avro": "AVRO", "protobuf": "PROTOBUF", "json": "JSON"}
_FORMATS: dict[str, SchemaFormat] = {name: schema_format for schema_format, name in _TYPES.items()}


@dataclass(frozen=True)
class SchemaReference:
    """A schema that another names: the name as the referring schema has it, and where the registry has its text."""

    name: str
    subject: str
    version: int


class SchemaDocument(msgspec.Struct):
    """A schema in an answer. Avro is the type that is left out."""

    text: str = msgspec.field(name="schema")
    type: str | None = msgspec.field(name="schemaType", default=None)
    references: list[_Reference] | None = None


class VersionDocument(SchemaDocument, kw_only=True):
    """A version of a subject in an answer."""

    id: int
    version: int


class IdDocument(msgspec.Struct):
    """What a registration is answered with."""

    id: int


class UsageDocument(msgspec.Struct):
    """A version that has the id that was asked for."""

    subject: str
    version: int


class VerdictDocument(msgspec.Struct):
    """What a check of compatibility is answered with."""

    is_compatible: bool
    messages: list[str] | None = None


class ModeDocument(msgspec.Struct):
    """A subject's compatibility mode in an answer."""

    level: str = msgspec.field(name="compatibilityLevel")


class _Reference(msgspec.Struct):
    name: str
    subject: str
    version: int


def write_document(schema_format: SchemaFormat, text: str, references: Sequence[SchemaReference]) -> dict[str, Any]:
    """The schema as a request has it."""
    named = [{"name": one.name, "subject": one.subject, "version": one.version} for one in references]
    return {"schema": text, "schemaType": _TYPES[schema_format], "references": named}


def subject_path(subject: str) -> str:
    """The subject's path below the registry's address: a name may hold slashes, as a .proto file's does."""
    return f"/subjects/{quote(subject, safe='')}"


def fetch_schema(access: RegistryAccess, schema_id: int, patience_seconds: float) -> RegisteredSchema:
    """The schema of an id. Errors as `SchemaRegistry.__call__`."""
    answer = call(access, "GET", f"/schemas/ids/{schema_id}", patience_seconds=patience_seconds)
    if answer.error_code in UNKNOWN_CODES:
        raise explain_unknown(access, schema_id)
    return resolve(access, schema_id, answer.read(SchemaDocument), patience_seconds)


def resolve(
    access: RegistryAccess, schema_id: int, document: SchemaDocument, patience_seconds: float
) -> RegisteredSchema:
    """The schema with all that it refers to, each reference before those that name it. Errors as `fetch_schema`."""
    schema_format = _FORMATS.get(document.type or "AVRO")
    if schema_format is None:
        raise _explain_unusable(
            access, schema_id, f"is of the type {document.type}; those read are {', '.join(_FORMATS)}"
        )
    resolution = _Resolution(access, schema_id, patience_seconds)
    resolution.add(document.references or [])
    named = tuple(NamedSchema(name, text) for name, text in resolution.texts.items())
    return RegisteredSchema(schema_id, schema_format, document.text, named)


def explain_unknown(access: RegistryAccess, schema_id: int) -> UnknownSchemaError:
    """The error for an id that the registry does not have."""
    return UnknownSchemaError(
        f"The schema registry at {access} has no schema of the id {schema_id}. Register it there, or find out which "
        "registry the sender uses."
    )


@dataclass
class _Resolution:
    """Collects the texts of one schema's references, by name and in order; each version is fetched once."""

    access: RegistryAccess
    schema_id: int
    patience_seconds: float
    texts: dict[str, str] = field(default_factory=dict)
    _fetched: dict[tuple[str, int], SchemaDocument] = field(default_factory=dict)
    _open: list[tuple[str, int]] = field(default_factory=list)

    def add(self, references: Sequence[_Reference]) -> None:
        for reference in references:
            place = (reference.subject, reference.version)
            if place in self._open:
                raise self._unusable(f"refers to {_name(place)}, which refers to itself")
            document = self._fetched.get(place) or self._fetch(place)
            if reference.name not in self.texts:
                self._open.append(place)
                self.add(document.references or [])
                self._open.pop()
            # The same name may come from two versions of a subject: which one its users mean nobody can know.
            if self.texts.setdefault(reference.name, document.text) != document.text:
                raise self._unusable(f"refers to two schemas of the name {reference.name}")

    def _fetch(self, place: tuple[str, int]) -> SchemaDocument:
        if len(self._fetched) == _MOST_REFERENCES:
            raise self._unusable(f"refers to more than {_MOST_REFERENCES} others")
        # Confluent's registry keeps a deleted version for those that refer to it, and shows it to who asks.
        path = f"{subject_path(place[0])}/versions/{place[1]}?deleted=true"
        answer = call(self.access, "GET", path, patience_seconds=self.patience_seconds)
        if answer.error_code in UNKNOWN_CODES:
            raise self._unusable(f"refers to {_name(place)}, which the registry does not have")
        self._fetched[place] = answer.read(SchemaDocument)
        return self._fetched[place]

    def _unusable(self, why: str) -> UnknownSchemaError:
        return _explain_unusable(self.access, self.schema_id, why)


def _explain_unusable(access: RegistryAccess, schema_id: int, why: str) -> UnknownSchemaError:
    return UnknownSchemaError(
        f"The schema {schema_id} of the schema registry at {access} {why}. Register a schema that can be resolved."
    )


def _name(place: tuple[str, int]) -> str:
    return f"version {place[1]} of the subject {place[0]}"
