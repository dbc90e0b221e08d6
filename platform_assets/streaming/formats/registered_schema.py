"""A schema as the registry has it, whatever its format. Plain values: who fetches them stands in `resources`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from platform_assets.errors import SettingError

if TYPE_CHECKING:
    from platform_assets.streaming.topic_spec import Topic

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


@dataclass(frozen=True)
class SeenSchemas:
    """The ids that records have had: `resolved`, and those for which the registry gave no schema."""

    resolved: set[int] = field(default_factory=set)
    unresolved: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class SchemaSource:
    """Fetches schemas, and says what happens where there is none. Sent to tasks with each batch.

    `quarantines`: a record whose schema the registry does not give, for it does not answer, is quarantined; else the
    batch waits. `unresolved`: the batch runs again, and when it first ran the registry had none of just these schemas.
    `asks_for_all`: each id is asked for, however many there are that the registry does not have. `seen` takes up which
    ids had a schema, for who wants to know.
    """

    fetch: FetchSchema
    quarantines: bool = False
    unresolved: frozenset[int] | None = None
    asks_for_all: bool = False
    seen: SeenSchemas | None = field(default=None, compare=False, repr=False)


def require_source(topic: Topic, source: SchemaSource | None) -> SchemaSource:
    """The source of schemas that a topic needs. Raises `SettingError` where no registry is set."""
    if source is None:
        raise explain_no_registry(topic)
    return source


def explain_no_registry(topic: Topic) -> SettingError:
    """What to do where a topic needs a registry and none is set."""
    name = topic.kafka_topic or topic.name
    return SettingError(
        f"The values of {name} are written by schemas of a registry, and no registry is set. "
        "Set HEADRACE_SCHEMA_REGISTRY_URL to its address, or to embedded."
    )


RegisterSchema: TypeAlias = Callable[[str, SchemaFormat, str], int]
"""Registers a schema as the next version of a subject, given its format and text, and returns its id.

One that the subject has already keeps its id. Raises `SchemaNotAcceptedError` where the registry refuses it, and
otherwise as `FetchSchema`. Can be hashed: equal ones ask the same registry.
"""


@dataclass(frozen=True)
class SchemaTarget:
    """Says in which format values are written, and who registers the schemas by which they are."""

    format: SchemaFormat
    register: RegisterSchema = field(repr=False)
