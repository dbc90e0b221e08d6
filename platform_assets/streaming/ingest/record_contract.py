"""A topic's contract, compiled: which values are its records, and why the others are not.

Plain Python over bytes; knows neither Spark nor Kafka, so that every rule is a unit test and another writer can
reuse it. Types are strict: nothing is coerced, trimmed or normalised, but for what the topic's `spellings` say. An id
that is a placeholder is a missing one. The first broken rule names the reason, in the order of `Reason`; then come the
topic's own rules, in theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, get_type_hints

import msgspec

from platform_assets.streaming.change_events import FACTS, OPERATION, PARTIAL_OPERATIONS, ChangeEvents, name_in_json
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.event_clock import EventClock
from platform_assets.streaming.ingest.field_values import Number, name_json_type, read_value
from platform_assets.streaming.ingest.json_values import find_at, is_at, list_unknown, parse_json, read_text
from platform_assets.streaming.ingest.nested_paths import build_converter, build_decoder
from platform_assets.streaming.ingest.reasons import Breaches, Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_headers import unpack_line
from platform_assets.streaming.record_types import RecordField, Unwrapped
from platform_assets.streaming.topic_spec import TextLines, Topic

# A record that is not plain raises one of these in the decoder, and is judged field by field.
NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)


class ParsedRecord(NamedTuple):
    """A record of the topic, its time in microseconds (UTC), and its unknown fields (JSON text, or None)."""

    record: Any
    time_micros: int
    unknown_fields: str | None


class RecordContract:
    """The contract of one topic. Made once a process (`compile_contract`): its decoders take a millisecond to build."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.fields = topic.fields
        self.clock = EventClock(topic.event_time, next(f for f in topic.fields if f.name == topic.event_time.field))
        self.id_field = next((f for f in topic.fields if topic.event_id == (f.name,)), None)
        """The field of the event id, where it is one field."""
        self.nothing = topic.record(*([None] * len(topic.fields)))
        """Stands for a record that is rejected: null in every field."""
        self._wire = {each.name: ".".join(each.path) for each in topic.fields}
        self.hints = get_type_hints(topic.record, include_extras=True)
        """The types of the record's fields, by name."""
        self._sure = frozenset((*topic.values.key, *FACTS)) if isinstance(topic.values, ChangeEvents) else None

    @cached_property
    def decode_plain(self) -> Callable[[bytes], Any]:
        """Decodes a value that has known fields only, and obeys every rule but those of size, time and the topic's own.

        Any other value raises one of `NOT_PLAIN` and is judged by `parse`. A line of text is none that is plain.
        """
        if isinstance(self.topic.values, TextLines):
            return _refuse_plain
        return build_decoder(self.topic.record, self.fields)

    @cached_property
    def convert_plain(self) -> Callable[[Any], Any]:
        """The same from a plain value of a schema's reader, which stands for its JSON form."""
        return build_converter(self.topic.record, self.fields)

    def parse(self, value: bytes | None, max_bytes: int, arrival_micros: int, rules: EventRules) -> ParsedRecord:
        """One record's value. `arrival_micros` is when it arrived: its time may not be more than a day after it.

        Of a topic whose values schemas of a registry wrote it is the JSON form (`opened_values`).
        Raises `RejectedRecordError` with the first broken rule and never anything else, whatever the bytes.
        """
        if value is None:
            raise RejectedRecordError(Reason.TOMBSTONE, "the value is null")
        if len(value) > max_bytes:
            raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
        if isinstance(self.topic.values, TextLines):
            return self.parse_slowly(value, arrival_micros, rules)
        try:
            record = self.decode_plain(value)
            if all(self.is_spelled(each, getattr(record, each.name)) for each in self.spelled_texts):
                return self._judge_plain(record, arrival_micros, rules)
            return self.parse_slowly(value, arrival_micros, rules)
        except (*NOT_PLAIN, RejectedRecordError):
            # Also for the reason: a decoder does not know all the rules that come before the broken one.
            return self.parse_slowly(value, arrival_micros, rules)

    def _judge_plain(self, record: Any, arrival_micros: int, rules: EventRules) -> ParsedRecord:
        breaches = Breaches()
        event_id = getattr(record, self.id_field.name) if self.id_field else ""
        self._check_event_id(str(event_id) if type(event_id) is int else event_id, rules, breaches)
        micros = self.clock.judge(getattr(record, self.topic.event_time.field), arrival_micros, rules, breaches)
        breaches.raise_first()
        if (broken := self.check_rules(record)) is not None:
            raise broken
        return ParsedRecord(record, micros, None)

    def parse_slowly(self, value: bytes, arrival_micros: int, rules: EventRules) -> ParsedRecord:
        """Judges a value field by field; its unknown fields are kept as the text that was sent. Raises as `parse`."""
        breaches = Breaches()
        if isinstance(self.topic.values, TextLines):
            found = self._read_line(self.topic.values, value)
            return self._judge(found, None, arrival_micros, rules, breaches)
        document = parse_json(value)
        if not isinstance(document, dict):
            said = f"the value is a JSON {name_json_type(document)}, not an object"
            raise RejectedRecordError(Reason.WRONG_TYPE, said)
        if self._sure is not None and document.get(name_in_json(OPERATION)) in PARTIAL_OPERATIONS:
            return self._judge_partial(value, document, self._sure, arrival_micros, rules)
        values = ((each, find_at(document, each.path, breaches)) for each in self.fields)
        # A null that was sent is none; a field that is absent has its default.
        found = {each.name: value for each, value in values if value is not None or is_at(document, each.path)}
        try:
            unknown = list_unknown(value, document, found, self.fields)
        except RecursionError:  # Python's JSON reads deeper than it can be written
            raise RejectedRecordError(Reason.NOT_JSON, "nested too deeply to be read") from None
        return self._judge(found, unknown, arrival_micros, rules, breaches)

    def read_field(self, each: RecordField, value: Any) -> Any:
        """One field's JSON (`parse_json`) as the record has it; null says that it is absent.

        Raises `RejectedRecordError` for a value that the field does not take.
        """
        if value is None:
            return None
        breaches = Breaches()
        found = self._read(each, value, breaches)
        breaches.raise_first()
        try:
            return msgspec.convert(found, self.hints[each.name])
        except msgspec.ValidationError as error:
            raise RejectedRecordError(Reason.BAD_VALUE, str(error)) from None

    @cached_property
    def spelled_texts(self) -> tuple[RecordField, ...]:
        """The fields that are texts and have a spelling."""
        return tuple(each for each in self.fields if each.kind == "text" and each.name in self.topic.spellings)

    def is_spelled(self, each: RecordField, text: str | None) -> bool:
        """Whether a text has the spelling of its field already; null has none."""
        try:
            return text is None or self.topic.spellings[each.name](text) == text
        except (ValueError, ArithmeticError):
            return False

    def check_rules(self, record: Any) -> RejectedRecordError | None:
        """The first of the topic's own rules that a record breaks."""
        for rule in self.topic.rules:
            if (broken := rule(record)) is not None:
                return RejectedRecordError(*broken)
        return None

    def is_partial(self, record: Any) -> bool:
        """Whether a record is of a row that is gone: only its key, and what the change says of itself, are sure."""
        return self._sure is not None and getattr(record, OPERATION) in PARTIAL_OPERATIONS

    def _judge_partial(
        self, value: bytes, document: Mapping[str, Any], sure: frozenset[str], arrival_micros: int, rules: EventRules
    ) -> ParsedRecord:
        """Judges only the fields that are sure. What another one cannot hold stays among the unknown fields.

        The topic's own rules are for rows that are there.
        """
        breaches, values, kept = Breaches(), dict[str, Any](), list[RecordField]()
        found = {each.name: find_at(document, each.path, Breaches()) for each in self.fields}
        for each in self.fields:
            is_sure = each.name in sure
            own = breaches if is_sure else Breaches()
            if found[each.name] is None:
                if is_sure and not each.is_nullable:
                    breaches.add(Reason.MISSING_FIELD, f"{each.name} is missing or null")
                kept.append(each)
                continue
            read = self._read(each, found[each.name], own)
            if is_sure or own.is_empty:
                try:
                    values[each.name] = None if read is None else msgspec.convert(read, self.hints[each.name])
                except msgspec.ValidationError as error:
                    own.add(Reason.BAD_VALUE, f"{each.name}: {error}")
            if is_sure or own.is_empty:
                kept.append(each)
        self._check_event_id(found.get(self.id_field.name) if self.id_field else None, rules, breaches)
        time = values.get(self.topic.event_time.field)
        micros = 0 if time is None else self.clock.judge(time, arrival_micros, rules, breaches)
        breaches.raise_first()
        record = self.topic.record(**{each.name: values.get(each.name) for each in self.fields})
        return ParsedRecord(record, micros, list_unknown(value, document, found, kept))

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        return get_type_hints(self.topic.record, include_extras=True)

    def _judge(
        self, found: Mapping[str, Any], unknown: str | None, arrival_micros: int, rules: EventRules, breaches: Breaches
    ) -> ParsedRecord:
        for each in self.fields:
            if each.is_required and not each.is_nullable and found.get(each.name) is None:
                breaches.add(Reason.MISSING_FIELD, f"{each.name} is missing or null")
        self._check_event_id(found.get(self.id_field.name) if self.id_field else None, rules, breaches)
        values = {
            each.name: self._read(each, found[each.name], breaches)
            for each in self.fields
            if found.get(each.name) is not None or (each.is_nullable and each.name in found)
        }
        time = values.get(self.topic.event_time.field)
        micros = 0 if time is None else self.clock.judge(time, arrival_micros, rules, breaches)
        breaches.raise_first()
        return ParsedRecord(self._build(values), micros, unknown)

    def _check_event_id(self, event_id: Any, rules: EventRules, breaches: Breaches) -> None:
        """A text, or the digits of a number; one of a wrong type is judged elsewhere."""
        if self.id_field is None or not isinstance(event_id, str):
            return
        is_own_type = type(event_id) is not Number or self.id_field.kind == "int"
        if is_own_type and rules.is_placeholder(event_id):
            breaches.add(Reason.MISSING_FIELD, f"{self.id_field.name} is a placeholder: {str(event_id)!r}")

    def _read(self, each: RecordField, value: Any, breaches: Breaches) -> Any:
        of = Unwrapped(each.inspected, each.is_nullable, "", each.marks)
        if each.name in self.topic.spellings and type(value) is str and not self._takes(of, each, value):
            try:
                return self.topic.spellings[each.name](value)
            except (ValueError, ArithmeticError) as error:  # the latter is what Decimal(text) raises
                breaches.add(Reason.WRONG_TYPE, f"{each.name} has no such spelling: {error}")
                return None
        is_time = each.name == self.topic.event_time.field
        if is_time and each.kind == "datetime" and type(value) is str:
            return value  # an unreadable one is a bad timestamp, not a wrong type: the clock says so
        unchosen = Reason.UNKNOWN_EVENT_TYPE if each.name == self.topic.event_type else Reason.BAD_VALUE
        return read_value(of, value, each.name, breaches, unchosen)

    def _takes(self, of: Unwrapped, each: RecordField, text: str) -> bool:
        """Whether a text is one of the field's type as it is. A decoder does not say which value was a text."""
        breaches = Breaches()
        read_value(of, text, each.name, breaches)
        try:
            msgspec.convert(text, self.hints[each.name])
            breaches.raise_first()
        except (msgspec.ValidationError, RejectedRecordError):
            return False
        return each.kind != "text"

    def _build(self, values: Mapping[str, Any]) -> Any:
        """The record; a limit or a pattern that only msgspec knows is judged here."""
        try:
            record = msgspec.convert({self._wire[name]: value for name, value in values.items()}, self.topic.record)
        except msgspec.ValidationError as error:
            raise RejectedRecordError(Reason.BAD_VALUE, str(error)) from None
        if (broken := self.check_rules(record)) is not None:
            raise broken
        return record

    def _read_line(self, lines: TextLines, value: bytes) -> dict[str, Any]:
        line, texts = unpack_line(value) if self.topic.headers else (value, {})
        try:
            text = line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise RejectedRecordError(Reason.NO_MATCH, f"not UTF-8: {error}") from None
        matched = lines.compiled.fullmatch(text)
        if matched is None:
            raise RejectedRecordError(Reason.NO_MATCH, f"the pattern does not match the line {text!r}")
        kinds = {each.name: each.kind for each in self.fields}
        groups: dict[str, str | None] = {**matched.groupdict(), **texts}
        return {name: read_text(kinds[name], text) for name, text in groups.items() if text is not None}


@lru_cache(maxsize=64)
def compile_contract(topic: Topic) -> RecordContract:
    """The contract of a topic; the same one each time, in this process."""
    return RecordContract(topic)


def _refuse_plain(value: bytes) -> Any:
    raise TypeError("a line of text is read by its pattern")
