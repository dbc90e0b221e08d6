"""Opens the values of a topic whose records are written by schemas of a registry. Runs inside Spark's Python workers.

Each value is read by the schema that wrote it, then judged by the topic's contract in its JSON form, as all topics
are: one set of rules, whatever the format. What cannot be opened has a reason of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.errors import RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.plain_values import Adaptation, Plain, plan_adaptation
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError, ValueReader
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import FetchSchema, RegisteredSchema, SchemaSource
from platform_assets.streaming.ingest.judged_columns import FieldPlan, plan_columns
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.topic_spec import Topic


def find_unresolved(records: pa.Table) -> frozenset[int]:
    """The ids for which the registry gave no schema, of parsed records (`parsed_schema`).

    Of a record without a value it is the schema of its key.
    """
    of_them = records.filter(pc.equal(records["_reason"], Reason.UNKNOWN_SCHEMA.value))
    found = map(find_schema_id, pc.coalesce(of_them["_value"], of_them["_key"]).to_pylist())
    return frozenset(schema_id for schema_id in found if schema_id is not None)


@dataclass(frozen=True)
class OpenedType:
    """A type of records whose values the contract can read. `is_json`: they are JSON text already.

    `plans`: how the contract takes them as columns; None where it cannot.
    """

    reader: ValueReader
    adaptation: Adaptation
    is_json: bool
    plans: tuple[FieldPlan, ...] | None = None


@dataclass
class OpenedValues:
    """What the values of a batch hold, by row: plain values, JSON text, or why it is neither.

    `groups`: rows of one type and their plain values, parallel. `away`: what the registry's absence was called.
    `partial`: rows of JSON texts that need not have all that the contract demands.
    `schemas`: what was found for each id. No id is asked for twice: a batch has one answer.
    """

    groups: list[tuple[Adaptation, list[int], list[Plain]]] = field(default_factory=list)
    texts: dict[int, bytes] = field(default_factory=dict)
    refused: dict[int, RejectedRecordError] = field(default_factory=dict)
    away: str = ""
    partial: set[int] = field(default_factory=set)
    schemas: dict[int, TopicSchema | RejectedRecordError] = field(default_factory=dict)


def open_values(
    values: Sequence[bytes | None], topic: Topic, source: SchemaSource, max_bytes: int, opened: OpenedValues
) -> OpenedValues:
    """Opens the values of a batch into `opened`; those of one schema are read together.

    Raises `RegistryUnavailableError` where a schema is needed that the registry does not give, and is to be waited for;
    what else the registry raises goes through.
    """
    by_schema: defaultdict[int, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        try:
            by_schema[_read_schema_id(value, max_bytes)].append(row)
        except RejectedRecordError as error:
            opened.refused[row] = error
    for schema_id, rows in by_schema.items():
        try:
            schema = find_schema(schema_id, topic, source, opened)
        except RejectedRecordError as error:
            opened.refused |= dict.fromkeys(rows, error)
            continue
        _open_rows(opened, schema, schema_id, {row: (values[row] or b"")[HEADER_BYTES:] for row in rows})
    return opened


def _read_schema_id(value: bytes | None, max_bytes: int) -> int:
    if value is None:
        raise RejectedRecordError(Reason.TOMBSTONE, "the value is null")
    if len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    if (schema_id := find_schema_id(value)) is None:
        said = "the value does not begin with a zero byte and the id of a schema"
        raise RejectedRecordError(Reason.NOT_FRAMED, said)
    return schema_id


class TopicSchema:
    """A schema, and how a topic's contract reads each of its types. Raises `SchemaError` where it cannot be used."""

    def __init__(self, schema: RegisteredSchema, topic: Topic) -> None:
        self.readers = compile_schema(schema)
        self._topic = topic
        self._types: dict[tuple[int, ...], OpenedType | SchemaError] = {}

    def find(self, place: tuple[int, ...]) -> OpenedType:
        """A type of the schema. Raises `SchemaError`, in words, where the contract cannot read it."""
        if place not in self._types:
            try:
                self._types[place] = self._open(place)
            except SchemaError as error:
                self._types[place] = error
        found = self._types[place]
        if isinstance(found, SchemaError):
            raise found
        return found

    def _open(self, place: tuple[int, ...]) -> OpenedType:
        reader = self.readers.find(place)
        if isinstance(self._topic.values, ChangeEvents):
            # It describes the event. The row in it, the contract judges value by value.
            return OpenedType(reader, Adaptation((), ()), self.readers.is_json)
        if misfits := find_misfits(reader.shape, self._topic):
            raise SchemaError("; ".join(misfits))
        plans = None if reader.read_columns is None else plan_columns(reader.shape, compile_contract(self._topic))
        return OpenedType(reader, plan_adaptation(reader.shape, self._topic), self.readers.is_json, plans)


def find_schema(schema_id: int, topic: Topic, source: SchemaSource, opened: OpenedValues) -> TopicSchema:
    """The schema of an id, as this batch has it. Raises `RejectedRecordError` for one that cannot be had or used."""
    if schema_id not in opened.schemas:
        try:
            opened.schemas[schema_id] = _find_schema(schema_id, topic, source, opened)
        except RejectedRecordError as error:
            opened.schemas[schema_id] = error
    found = opened.schemas[schema_id]
    if isinstance(found, RejectedRecordError):
        raise found
    return found


def _find_schema(schema_id: int, topic: Topic, source: SchemaSource, opened: OpenedValues) -> TopicSchema:
    """The schema of an id. Raises `RejectedRecordError` for one that there is not, or that cannot be used."""
    known = _known_schemas(source.fetch, topic)
    is_again = source.unresolved is not None
    try:
        if source.unresolved is not None and schema_id in source.unresolved:
            raise UnknownSchemaError("there was none when the batch was first read")
        if schema_id not in known:
            if opened.away:
                raise RegistryUnavailableError(opened.away)
            known[schema_id] = _compile(source.fetch(schema_id), topic)
        found = known[schema_id]
    except UnknownSchemaError as error:
        if is_again and schema_id not in (source.unresolved or ()):
            # Other tables may have this batch's records already, read by that schema.
            raise RegistryUnavailableError(f"{error} It was there when this batch was first read.") from None
        said = str(error)
    except RegistryUnavailableError as error:
        if not source.quarantines or is_again:
            raise
        # Each further id would be waited for as long.
        opened.away = said = str(error)
    else:
        if isinstance(found, SchemaError):
            raise RejectedRecordError(Reason.UNREADABLE_SCHEMA, f"schema {schema_id}: {found}")
        return found
    raise RejectedRecordError(Reason.UNKNOWN_SCHEMA, f"schema {schema_id}: {said}")


@lru_cache(maxsize=64)
def _known_schemas(fetch: FetchSchema, topic: Topic) -> dict[int, TopicSchema | SchemaError]:
    """The schemas that this process has compiled for a topic, or why it cannot: they never change."""
    return {}


def _compile(schema: RegisteredSchema, topic: Topic) -> TopicSchema | SchemaError:
    try:
        return TopicSchema(schema, topic)
    except SchemaError as error:
        return error


def _open_rows(opened: OpenedValues, schema: TopicSchema, schema_id: int, payloads: Mapping[int, bytes]) -> None:
    """Reads the payloads of one schema, given by row."""
    by_place: defaultdict[tuple[int, ...], dict[int, bytes]] = defaultdict(dict)
    for row, payload in payloads.items():
        try:
            place, value = schema.readers.split(payload)
        except UndecodableError as error:
            opened.refused[row] = _refuse_bytes(schema_id, error)
        else:
            by_place[place][row] = value
    for place, own in by_place.items():
        try:
            found = schema.find(place)
        except SchemaError as error:
            refusal = RejectedRecordError(Reason.UNREADABLE_SCHEMA, f"schema {schema_id}: {error}")
            opened.refused |= dict.fromkeys(own, refusal)
            continue
        if found.is_json:
            opened.texts |= own
        else:
            _read_rows(opened, found, schema_id, own)


def _read_rows(opened: OpenedValues, found: OpenedType, schema_id: int, values: Mapping[int, bytes]) -> None:
    many = found.reader.read_many
    plains = many(list(values.values())) if many is not None else None
    try:
        found.adaptation.apply(plains or ())
    except UndecodableError:
        plains = None
    rows = list(values)
    if plains is None:
        rows, plains = [], []
        for row, value in values.items():
            try:
                plain = found.reader.read(value)
                found.adaptation.apply([plain])
            except UndecodableError as error:
                opened.refused[row] = _refuse_bytes(schema_id, error)
            else:
                rows.append(row)
                plains.append(plain)
    opened.groups.append((found.adaptation, rows, plains))


def _refuse_bytes(schema_id: int, error: UndecodableError) -> RejectedRecordError:
    return RejectedRecordError(Reason.NOT_DECODABLE, f"no value of schema {schema_id}: {error}")
