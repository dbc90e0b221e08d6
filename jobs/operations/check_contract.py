"""Compares topics' contracts with the schemas that a registry has for them: before a deployment, in CI.

Nothing is written. A contract fails where the newest version of a subject, or an older one, has no type of records
that it can read, and where two versions give one written number two meanings. What is only worth knowing is a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow.compute as pc

from platform_assets.errors import UnknownSchemaError, UsageError
from platform_assets.streaming.formats.contract_fit import find_misfits, find_unknown
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.schema_changes import find_changed_meanings
from platform_assets.streaming.formats.shapes import Shape
from platform_assets.streaming.topic_spec import RegistryValues, Topic
from resources.range_reader import RangeReader

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.registry.schema_registry import SubjectVersion


@dataclass(frozen=True)
class Said:
    """One line about a topic. `is_failure`: the contract fails."""

    text: str
    is_failure: bool = False


class Versions(Protocol):
    """What of a registry is asked here."""

    def versions(self, subject: str) -> tuple[int, ...]:
        """The versions of a subject, oldest first; none for one that there is not."""

    def version(self, subject: str, number: int) -> SubjectVersion | None:
        """One of them. Raises `UnknownSchemaError` where it cannot be resolved."""


@dataclass(frozen=True)
class _Compiled:
    """A version's types of records, or why it has none. `name` is that of the version, for people."""

    name: str
    schema_id: int
    shapes: tuple[Shape, ...] = ()
    fault: str = ""


def check_contract(topic: Topic, registry: Versions, held: frozenset[int] | None, *, kafka_topic: str) -> list[Said]:
    """What there is to say of a topic whose values schemas wrote, failures among it; failures of one subject first.

    `held` are the ids that Kafka still holds: other old versions do not count then. None: all versions count. Raises
    what the registry raises when it does not answer.
    """
    assert isinstance(topic.values, RegistryValues), "The topic's values are written by no schemas."
    found: list[Said] = []
    for subject in topic.values.subjects or (f"{kafka_topic}-value",):
        numbers = registry.versions(subject)
        if not numbers:
            found.append(Said(f"the registry has no subject {subject}", is_failure=True))
            continue
        compiled = [each for number in numbers if (each := _compile(registry, subject, number)) is not None]
        counted = [each for each in compiled if held is None or each.schema_id in held or each is compiled[-1]]
        found += sorted(_judge(topic, counted), key=lambda said: not said.is_failure)
    return found


def choose_topics(topics: Sequence[Topic], names: Sequence[str]) -> list[Topic]:
    """The topics whose values schemas wrote: all, or those of these names. Raises `UsageError`."""
    of_registry = {topic.name: topic for topic in topics if isinstance(topic.values, RegistryValues)}
    if unknown := [name for name in names if name not in of_registry]:
        known = ", ".join(of_registry) or "none"
        raise UsageError(f"{unknown[0]} is no topic whose values schemas of a registry write. There are: {known}.")
    return [of_registry[name] for name in names] if names else list(of_registry.values())


def _compile(registry: Versions, subject: str, number: int) -> _Compiled | None:
    name = f"{subject} version {number}"
    try:
        version = registry.version(subject, number)
    except UnknownSchemaError as error:
        return _Compiled(name, -1, fault=str(error))
    if version is None:  # deleted since the list was asked for
        return None
    schema_id = version.schema.schema_id
    name = f"{name} (schema {schema_id})"
    try:
        readers = compile_schema(version.schema)
        return _Compiled(name, schema_id, tuple(readers.find(place).shape for place in readers.places))
    except (SchemaError, UnknownSchemaError) as error:
        return _Compiled(name, schema_id, fault=str(error))


def _judge(topic: Topic, versions: Sequence[_Compiled]) -> Iterator[Said]:
    for each in versions:
        if each.fault:
            yield Said(f"{each.name} cannot be read: {each.fault}", is_failure=True)
            continue
        misfits = min((find_misfits(shape, topic) for shape in each.shapes), key=len, default=["it has no record"])
        yield from (Said(f"{each.name}: {words}", is_failure=True) for words in misfits)
        if taken := _list_taken(topic, each):
            words = f"has {', '.join(taken)}, which the topic takes from a header: records that have it are quarantined"
            yield Said(f"{each.name} {words}", is_failure=True)
    readable = [each for each in versions if each.shapes]
    for number, new in enumerate(readable):
        changes: dict[str, str] = {}
        for old in reversed(readable[:number]):  # a version between may lack the field
            changes = dict.fromkeys(_compare(old, new), old.name) | changes
        yield from (Said(f"{name} and {new.name}: {words}", is_failure=True) for words, name in changes.items())
    if versions and versions[-1].shapes:
        yield from _note(topic, versions[-1])


def _compare(old: _Compiled, new: _Compiled) -> Iterator[str]:
    by_name = {shape.name: shape for shape in new.shapes}
    for shape in old.shapes:
        if (other := by_name.get(shape.name)) is not None:
            yield from find_changed_meanings(shape, other)


def _list_taken(topic: Topic, version: _Compiled) -> list[str]:
    """The fields of headers that the version's values have too, in each of its types that the contract reads."""
    own = {each.path[0] for each in topic.fields if each.name in topic.headers}
    read = [shape for shape in version.shapes if not find_misfits(shape, topic)]
    names = [{member.name for record in shape.choices for member in record.members} for shape in read]
    return sorted(own.intersection(*names)) if names else []


def _note(topic: Topic, newest: _Compiled) -> Iterator[Said]:
    """The fields that only one of the two has, by the type of the newest version that fits best."""
    shape = min(newest.shapes, key=lambda each: len(find_misfits(each, topic)))
    if unknown := find_unknown(shape, topic):
        yield Said(f"{newest.name} has {', '.join(unknown)}, which the contract has not: kept in unknown_fields")
    members = {member.name for record in shape.choices for member in record.members}
    fields = [each for each in topic.fields if each.name not in topic.headers]
    lacking = [each.name for each in fields if each.path[0] not in members and not each.is_required]
    if lacking and not any(record.is_open for record in shape.choices):
        yield Said(f"{newest.name} has no {', '.join(lacking)}: these columns stay empty")


def read_held_ids(kafka: KafkaResource, kafka_topic: str) -> frozenset[int]:
    """The ids of the schemas of all records that Kafka holds of a topic, which is read for it from end to end.

    Raises `MissingTopicError`, and `BrokerUnavailableError` where the broker does not answer.
    """
    firsts, ends = kafka.beginning_offsets(kafka_topic), kafka.end_offsets(kafka_topic, committed=True)
    ranges = [(partition, firsts[partition], end) for partition, end in ends.items()]
    found: set[int] = set()
    for batch in RangeReader(kafka.client_config())(kafka_topic, ranges):
        heads = pc.binary_slice(batch.column("value").drop_null(), 0, HEADER_BYTES).unique().to_pylist()
        found |= {schema_id for head in heads if (schema_id := find_schema_id(head)) is not None}
    return frozenset(found)
