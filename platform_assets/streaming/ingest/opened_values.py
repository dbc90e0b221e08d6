"""Opens the values of a topic whose records are written by schemas of a registry. Runs inside Spark's Python workers.

Each value is read by the schema that wrote it, then judged by the topic's contract in its JSON form, as all topics
are: one set of rules, whatever the format. What cannot be opened has a reason of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import msgspec

from platform_assets.errors import RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.outcomes import Outcomes
from platform_assets.streaming.formats.plain_values import Adaptation, Plain, plan_adaptation, plan_data, write_json
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError, ValueReader
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import FetchSchema, RegisteredSchema, SchemaSource
from platform_assets.streaming.ingest.judged_columns import FieldPlan, plan_columns
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.topic_spec import CloudEvents, RegistryValues, Topic

# Each id that the registry does not have costs a request: with a random one in each record a batch took seconds.
MOST_UNKNOWN = 50
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


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
    `schemas`: what was found for each id. No id is asked for twice: a batch has one answer. `unknown_ids`: of how many
    the registry said that it does not have them.
    """

    groups: list[tuple[Adaptation, list[int], list[Plain]]] = field(default_factory=list)
    texts: dict[int, bytes] = field(default_factory=dict)
    refused: dict[int, RejectedRecordError] = field(default_factory=dict)
    away: str = ""
    partial: set[int] = field(default_factory=set)
    schemas: Outcomes[int, TopicSchema] = field(default_factory=lambda: Outcomes(RejectedRecordError))
    unknown_ids: int = 0


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
    # Those of most records first: one in each record must not keep the registry from being asked for the others.
    for schema_id, rows in sorted(by_schema.items(), key=lambda found: -len(found[1])):
        try:
            schema = find_schema(schema_id, topic, source, opened)
        except RejectedRecordError as error:
            opened.refused |= dict.fromkeys(rows, error)
            continue
        _open_rows(opened, schema, schema_id, {row: (values[row] or b"")[HEADER_BYTES:] for row in rows})
    return opened


def open_texts(
    values: Sequence[bytes | None], topic: Topic, source: SchemaSource, max_bytes: int
) -> tuple[dict[int, bytes], dict[int, RejectedRecordError]]:
    """The JSON that framed values stand for, by place, and why the others have none. Raises as `open_values`."""
    opened = open_values(values, topic, source, max_bytes, OpenedValues())
    texts = dict(opened.texts)
    for _, rows, plains in opened.groups:
        texts |= zip(rows, map(write_json, plains), strict=True)
    return texts, opened.refused


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
        self._validates = isinstance(topic.values, RegistryValues) and topic.values.validates_json
        self._types = Outcomes[tuple[int, ...], OpenedType](SchemaError)

    def find_check(self, reader: ValueReader) -> Callable[[bytes], object] | None:
        """What JSON text must pass before others judge it; None for nothing. It raises `UndecodableError`."""
        if self._validates:
            assert reader.validate is not None, "Only the values of a format that reads them are not validated."
            return reader.validate
        # The data becomes a part of an event's text: what goes on behind it would be the event's own members.
        return _require_json if isinstance(self._topic.values, CloudEvents) else None

    def find(self, place: tuple[int, ...]) -> OpenedType:
        """A type of the schema. Raises `SchemaError`, in words, where the contract cannot read it."""
        return self._types.find(place, partial(self._open, place))

    def _open(self, place: tuple[int, ...]) -> OpenedType:
        reader = self.readers.find(place)
        # Such a schema describes the event, or its data: not the record. The contract judges what is in it by value.
        if isinstance(self._topic.values, ChangeEvents):
            return OpenedType(reader, Adaptation((), ()), self.readers.is_json)
        if isinstance(self._topic.values, CloudEvents):
            return OpenedType(reader, plan_data(reader.shape, self._topic, "data"), self.readers.is_json)
        if misfits := find_misfits(reader.shape, self._topic):
            raise SchemaError("; ".join(misfits))
        plans = None if reader.read_columns is None else plan_columns(reader.shape, compile_contract(self._topic))
        return OpenedType(reader, plan_adaptation(reader.shape, self._topic), self.readers.is_json, plans)


def find_schema(schema_id: int, topic: Topic, source: SchemaSource, opened: OpenedValues) -> TopicSchema:
    """The schema of an id, as this batch has it. Raises `RejectedRecordError` for one that cannot be had or used."""
    try:
        found = opened.schemas.find(schema_id, lambda: _find_schema(schema_id, topic, source, opened))
    except RejectedRecordError as error:
        if source.seen is not None and error.reason is Reason.UNKNOWN_SCHEMA:
            source.seen.unresolved.add(schema_id)
        raise
    if source.seen is not None:
        source.seen.resolved.add(schema_id)
    return found


def _find_schema(schema_id: int, topic: Topic, source: SchemaSource, opened: OpenedValues) -> TopicSchema:
    """The schema of an id. Raises `RejectedRecordError` for one that there is not, or that cannot be used."""
    known = _known_schemas(source.fetch, topic)
    is_again = source.unresolved is not None
    try:
        if source.unresolved is not None and schema_id in source.unresolved:
            raise UnknownSchemaError("there was none when the batch was first read")
        if schema_id not in known and not is_again:
            _refrain(source, opened)
        return known.find(schema_id, lambda: TopicSchema(source.fetch(schema_id), topic))
    except SchemaError as error:
        raise RejectedRecordError(Reason.UNREADABLE_SCHEMA, f"schema {schema_id}: {error}") from None
    except UnknownSchemaError as error:
        if is_again and schema_id not in (source.unresolved or ()):
            # Other tables may have this batch's records already, read by that schema.
            raise RegistryUnavailableError(f"{error} It was there when this batch was first read.") from None
        opened.unknown_ids += 1
        said = str(error)
    except RegistryUnavailableError as error:
        if not source.quarantines or is_again:
            raise
        # Each further id would be waited for as long.
        opened.away = said = str(error)
    raise RejectedRecordError(Reason.UNKNOWN_SCHEMA, f"schema {schema_id}: {said}")


def _refrain(source: SchemaSource, opened: OpenedValues) -> None:
    """Raises what stands for the answer to a request that is not made: it would take too long."""
    if opened.away:
        raise RegistryUnavailableError(opened.away)
    if opened.unknown_ids >= MOST_UNKNOWN and not source.asks_for_all:
        said = f"not asked for, as the registry does not have {MOST_UNKNOWN} other ids of these records"
        raise UnknownSchemaError(said)


@lru_cache(maxsize=64)
def _known_schemas(fetch: FetchSchema, topic: Topic) -> Outcomes[int, TopicSchema]:
    """The schemas that this process has compiled for a topic, or why it cannot: they never change."""
    return Outcomes(SchemaError)


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
            check = schema.find_check(found.reader)
            opened.texts |= own if check is None else _keep_valid(opened, check, schema_id, own)
        else:
            _read_rows(opened, found, schema_id, own)


def _require_json(value: bytes) -> None:
    """Raises `UndecodableError` for bytes that are not one JSON text in UTF-8."""
    try:
        value.decode()
        _decode_any(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"no JSON: {error}") from None


def _keep_valid(
    opened: OpenedValues, check: Callable[[bytes], object], schema_id: int, values: Mapping[int, bytes]
) -> dict[int, bytes]:
    kept = {}
    for row, value in values.items():
        try:
            check(value)
        except UndecodableError as error:
            opened.refused[row] = _refuse_bytes(schema_id, error)
        else:
            kept[row] = value
    return kept


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
