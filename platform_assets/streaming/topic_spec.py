"""What a topic is, as a frozen value: the record that its values hold, what its fields stand for, and its tables.

A file in `platform_assets/topics/` builds one `Topic`. Nothing here runs, and no engine is imported for it:
`streaming.ingest.record_contract` compiles the contract, `streaming.ingest.event_writer` writes the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import msgspec

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.change_events import ChangeEvents, check_change_events
from platform_assets.streaming.compression import COMPRESSIONS, Compression
from platform_assets.streaming.event_time_role import check_event_time
from platform_assets.streaming.record_types import RecordField, read_fields
from platform_assets.streaming.time_spellings import TimeUnit
from platform_assets.streaming.topic_tables import build_tables
from platform_assets.tables.spec import EventRoles, TableSpec

Rule: TypeAlias = Callable[[Any], tuple[str, str] | None]
"""Judges a record whose types are right: None, or a reason (a stable code) and a detail for people."""


class Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Base of a topic's record and of the records nested in it. Fields that it does not know are kept, not refused."""


def digits(precision: int, scale: int) -> msgspec.Meta:
    """Marks a `Decimal`: its column is decimal(precision, scale); a value that has more digits is a wrong type."""
    return msgspec.Meta(extra={"digits": (precision, scale)})


def epoch(unit: TimeUnit) -> msgspec.Meta:
    """Marks an `int`: its column is a timestamp, so many units since 1970, UTC."""
    return msgspec.Meta(extra={"epoch": unit})


def time_format(text: str) -> msgspec.Meta:
    """Marks a `str`: its column is a timestamp, spelled in this format of `datetime.strptime`."""
    return msgspec.Meta(extra={"time_format": text})


@dataclass(frozen=True)
class EventTime:
    """When a record happened: a field of the record, which becomes the column `event_time` and is not kept otherwise.

    A text is ISO 8601, or in `format` (of `datetime.strptime`); a number counts `unit` since 1970. A time without an
    offset is in the zone HEADRACE_TOPIC_TIME_ZONE.
    """

    field: str
    unit: TimeUnit | None = None
    format: str | None = None


@dataclass(frozen=True)
class JsonValues:
    """Each value is a JSON object (RFC 8259, UTF-8); with `is_list` an array of them, each of which is a record.

    A list is accepted or quarantined as a whole: it is one Kafka record, and one offset in the ledger.
    """

    is_list: bool = False


@dataclass(frozen=True)
class TextLines:
    """Each value is a line of text in UTF-8. `pattern` matches all of it; its named groups are the record's fields.

    A group that takes no part in the match is a field that is absent. A line break at the end does not count.
    """

    pattern: str

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern. Raises `TopicSpecError` for one that is none, or has no named groups."""
        try:
            found = re.compile(self.pattern)
        except re.error as error:
            raise _wrong("values", f"The pattern is no regular expression: {error}.") from None
        if not found.groupindex:
            raise _wrong("values", "The pattern has no named groups. Write (?P<field>...) for each field.")
        return found


@dataclass(frozen=True)
class RegistryValues:
    """Each value is in Confluent's frame, and the schema that wrote it is one of a registry: Avro, Protobuf or JSON.

    `subjects` are the registry's names for what is written to the topic, to compare them with the contract; none: that
    of the topic's name strategy, `<topic>-value`. `validates_json`: JSON that its own schema forbids is rejected, for
    senders that do not validate what they write; else the contract alone judges it.
    """

    subjects: tuple[str, ...] = ()
    validates_json: bool = False


@dataclass(frozen=True)
class CloudEvents:
    """Each record is a CloudEvent (version 1.0) by its binding to Kafka: structured, as JSON, or binary, with headers.

    The contract's record has the event's attributes as fields, with those of extensions, and `data`: its JSON. What the
    content type says is text is a text there; other bytes are base64 in `data_base64`. `is_registered`: data of the
    binary mode that is in Confluent's frame is read by its schema of a registry, and is JSON there too.
    """

    is_registered: bool = False


Values: TypeAlias = JsonValues | TextLines | RegistryValues | CloudEvents | ChangeEvents
_KINDS_OF_VALUES = "JsonValues(...), TextLines(...), RegistryValues(...), CloudEvents() or ChangeEvents(...)"


@dataclass(frozen=True)
class Topic:
    """A Kafka topic whose records follow one contract.

    `name` names the stream, its checkpoint and the tables: `silver.<name>`, `silver.quarantined_<name>` and
    `silver.deduplicated_<name>`. `kafka_topic` is its name on the broker; empty: HEADRACE_TOPIC has it (the shop's).
    `record` has the fields, strictly typed; one without a default is required.

    Roles are named by field. `event_id`: what a repeated record is known by; none: nothing is deduplicated; several, or
    a number: the table has a text column `event_id` made of them. `subject`: whose record it is, a text or a whole
    number (kept as text); `forget-user` erases by it. `event_type`: a text or an enum that streams choose records by.

    `headers`: for fields that are no part of the value the Kafka header whose text they are; its last one.
    `compression`: each value is compressed by itself, whole. What Kafka's producers compress needs no word here.

    `rules` judge what types cannot say. `spellings` bring a text into one that a field's type accepts: each of a `str`,
    of other types those that these do not accept as they are. They raise `ValueError` or `ArithmeticError` for a text
    that they do not know. `complete` fills in an accepted record what its sender left out. `added_fields` came after
    the table: their columns stand behind all others, in this order. `compared_as` has SQL (of DuckDB) for columns that
    are compared otherwise than by their value. Raises `TopicSpecError`.
    """

    name: str
    description: str
    kafka_topic: str
    record: type[msgspec.Struct]
    event_time: EventTime
    event_id: tuple[str, ...] = ()
    subject: str | None = None
    event_type: str | None = None
    values: Values = JsonValues()
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    compression: Compression | None = None
    rules: tuple[Rule, ...] = ()
    spellings: Mapping[str, Callable[[str], Any]] = field(default_factory=dict, hash=False)
    complete: Callable[[Any], None] | None = None
    added_fields: tuple[str, ...] = ()
    compared_as: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]{0,199}", self.name):
            raise _wrong("name", f"The topic's name {self.name!r} must be small letters, digits and _: at most 200.")
        if not re.fullmatch("[a-zA-Z0-9._-]{0,249}", self.kafka_topic) or self.kafka_topic in (".", ".."):
            raise _wrong("kafka_topic", f"Kafka has no topic with the name {self.kafka_topic!r}.")
        self._check_roles()
        if not isinstance(self.values, JsonValues | TextLines | RegistryValues | CloudEvents | ChangeEvents):
            raise _wrong("values", f"values must be {_KINDS_OF_VALUES}.")
        self._check_headers()
        if self.compression not in (None, *COMPRESSIONS):
            raise _wrong("compression", f"compression must be None or one of {', '.join(COMPRESSIONS)}.")
        if not all(map(callable, self.rules)):
            raise _wrong("rules", "rules must be functions from a record to None, or to a reason and a detail.")
        if isinstance(self.values, TextLines):
            self._check_groups(self.values)
        if isinstance(self.values, ChangeEvents):
            check_change_events(self.values, self.fields, self.event_time.field, self.event_id)
        _ = self.tables

    @cached_property
    def fields(self) -> tuple[RecordField, ...]:
        """The record's fields, in their order, with their columns. Raises `TopicSpecError` for a type without one."""
        texts = {name for name in (*self.event_id[: len(self.event_id) == 1], self.subject) if name}
        return read_fields(self.record, as_text=frozenset(texts))

    @cached_property
    def tables(self) -> tuple[TableSpec, TableSpec, TableSpec]:
        """The tables of its accepted, its quarantined and its deduplicated records."""
        return build_tables(
            self.name, self.description, self.fields, self.event_time.field, self.roles, self.added_fields,
            self.is_list, self.has_headers,
        )  # fmt: skip

    @cached_property
    def is_list(self) -> bool:
        """Whether a Kafka record holds a list of records."""
        return isinstance(self.values, JsonValues) and self.values.is_list

    @cached_property
    def has_headers(self) -> bool:
        """Whether a record is made of its Kafka headers too."""
        return bool(self.headers) or isinstance(self.values, CloudEvents)

    @cached_property
    def is_registered(self) -> bool:
        """Whether schemas of a registry write its values."""
        values = self.values
        is_other = isinstance(values, ChangeEvents | CloudEvents) and values.is_registered
        return is_other or isinstance(values, RegistryValues)

    @cached_property
    def roles(self) -> EventRoles:
        """Which columns of the accepted records' table play a part."""
        event_id = None
        if self.event_id:
            event_id = self.event_id[0] if len(self.event_id) == 1 else "event_id"
        fields = {each.name: ".".join(each.path) for each in self.fields}
        users = () if self.subject is None else tuple(dict.fromkeys((self.subject, fields[self.subject])))
        return EventRoles(event_id, self.subject, self.event_type, users)

    def _check_groups(self, lines: TextLines) -> None:
        groups = lines.compiled.groupindex
        for each in self.fields:
            if each.kind in ("list", "map", "record") and each.name not in self.spellings:
                said = f"{each.name} is a {each.kind}, and a group of a pattern is one text."
                raise TopicSpecError(said, field=each.name)
            if each.is_required and each.name not in groups and each.name not in self.headers:
                raise _wrong("values", f"The pattern has no group for the required field {each.name}.")
        if unknown := groups.keys() - {each.name for each in self.fields}:
            raise _wrong("values", f"The record has no field for the pattern's groups {sorted(unknown)}.")

    def _check_headers(self) -> None:
        if self.headers and isinstance(self.values, ChangeEvents):
            raise _wrong("headers", "A change event is a row of a table: no header is of it.")
        if isinstance(self.values, TextLines) and (
            twice := self.headers.keys() & self.values.compiled.groupindex.keys()
        ):
            raise _wrong("headers", f"{min(twice)} is a group of the pattern: no header can be it.")
        for each in self.fields:
            if each.name in self.headers and (len(each.path) > 1 or each.kind in ("list", "map", "record", "bytes")):
                raise _wrong("headers", f"{each.name} is a {each.kind} at {'.'.join(each.path)}: a header is one text.")

    def _check_roles(self) -> None:
        known = {each.name: each for each in self.fields}
        named = {
            "event_time": (self.event_time.field,), "event_id": self.event_id,
            "subject": (self.subject,) if self.subject else (),
            "event_type": (self.event_type,) if self.event_type else (), "added_fields": self.added_fields,
            "headers": tuple(self.headers), "spellings": tuple(self.spellings), "compared_as": tuple(self.compared_as),
        }  # fmt: skip
        for role, names in named.items():
            for name in names:
                if name not in known:
                    fields = ", ".join(known)
                    raise _wrong(role, f"{role} names {name!r}; the record's fields are {fields}.")
        if len(self.event_id) > 1 and "event_id" in known:
            raise _wrong("event_id", "A field is called event_id: the column of the joined ids has this name.")
        if self.event_id == (self.event_time.field,):
            raise _wrong("event_id", "event_id is the event time alone: at one moment there may be many records.")
        check_event_time(known[self.event_time.field], self.event_time.unit, self.event_time.format)
        for role, names in {"event_id": self.event_id, "subject": named["subject"]}.items():
            for name in names:
                if not known[name].is_required or known[name].kind not in ("text", "int", "enum"):
                    raise _wrong(role, f"{role} names {name}: it must be a required str or int.")
        if self.event_type and known[self.event_type].column_type != "string":
            said = f"event_type names {self.event_type}: it must be a str or an enum of texts."
            raise _wrong("event_type", said)


def _wrong(argument: str, message: str) -> TopicSpecError:
    return TopicSpecError(message, argument=argument)
