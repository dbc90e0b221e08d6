"""Valid records of a topic, made by its contract: a JSON document, or the texts of a line's groups, and the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import msgspec.inspect as inspection

from jobs.simulator.by_contract.field_makers import Maker, Moment, build_maker, spell_time
from jobs.simulator.by_contract.matching_text import write_match
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.record_types import INT64_MAX, RecordField
from platform_assets.streaming.topic_spec import TextLines, Topic

if TYPE_CHECKING:
    from platform_assets.streaming.ingest.record_contract import RecordContract

# Tries for what only the topic's own rules and spellings know. A rule that refuses half of all records passes surely.
_TRIES = 40
_PRESENT = 0.85
# Syslog's own spelling (RFC 3164), which a topic's spelling brings into another one.
_OTHER_FORMATS = ("%b %d %H:%M:%S",)
MAX_BYTES = 1_048_576
_encode = msgspec.json.Encoder(decimal_format="number").encode

Document = dict[str, Any]


class ContractRecords:
    """Makes the records of one topic. The same arguments give the same bytes."""

    def __init__(self, topic: Topic) -> None:
        """Raises `UsageError` for a topic whose records cannot be made."""
        self.topic = topic
        self._ids = dict.fromkeys(topic.event_id)
        self._makers = {each.name: self._build_maker(each) for each in topic.fields}
        is_spelled = topic.event_time.field in topic.spellings
        self._time_formats = [topic.event_time.format, *(_OTHER_FORMATS if is_spelled else ())]

    @cached_property
    def contract(self) -> RecordContract:
        """What judges each record that is made."""
        from platform_assets.streaming.ingest.record_contract import compile_contract

        return compile_contract(self.topic)

    def make(self, micros: int, subject: int, number: int) -> tuple[Document, bytes]:
        """A record of this moment, person and number, which no other record has: what it holds, and its bytes.

        Raises `UsageError` where the topic refuses all that were tried.
        """
        reason = ""
        for attempt in range(_TRIES):
            moment = Moment(micros, Random(number * _TRIES + attempt))
            document = self._fill(moment, subject, number, self._time_formats[attempt % len(self._time_formats)])
            value = self.encode(document, moment.random)
            if not (reason := self.judge(value, micros)):
                return document, value
        raise UsageError(
            f"No record could be made that the topic {self.topic.name} accepts (the last one: {reason}). Say "
            "Meta(examples=[...]) for the fields that its rules or spellings are about."
        )

    def encode(self, document: Document, random: Random) -> bytes:
        """A document as a record's value; of a topic of lines, the groups' texts in a line."""
        if not isinstance(self.topic.values, TextLines):
            return _encode(_nest(self.topic, document))
        texts = {each.name: _as_text(document.get(each.name)) for each in self.topic.fields}
        return self._write_line(self.topic.values, texts, random).encode()

    def judge(self, value: bytes | None, micros: int) -> str:
        """The reason for which the topic refuses a value that arrives when it happened, with the detail; or nothing."""
        from platform_assets.streaming.ingest.reasons import RejectedRecordError

        try:
            self.contract.parse(value, MAX_BYTES, micros, EventRules())
        except RejectedRecordError as error:
            return f"{error.reason}: {error.detail}"
        return ""

    def _fill(self, moment: Moment, subject: int, number: int, time_format: str | None) -> Document:
        document: Document = {}
        time = self.topic.event_time
        for each in self.topic.fields:
            if each.name == time.field:
                document[each.name] = spell_time(moment.micros, time.unit, time_format)
            elif each.name in self._ids and getattr(each.inspected, "pattern", None) is None:
                document[each.name] = _make_id(each, number, len(self._ids))
            elif each.name == self.topic.subject:
                document[each.name] = subject if each.kind == "int" else f"{each.name.removesuffix('_id')}-{subject}"
            elif each.is_required or moment.random.random() < _PRESENT:
                document[each.name] = self._makers[each.name](moment)
        return document

    def _build_maker(self, each: RecordField) -> Maker:
        hints = inspection.type_info(self.topic.record)
        assert isinstance(hints, inspection.StructType)
        return build_maker(next(field.type for field in hints.fields if field.name == each.name), each.name)

    def _write_line(self, lines: TextLines, texts: Mapping[str, str | None], random: Random) -> str:
        """A line with these texts; those that the pattern has no room for are made by the pattern itself."""
        line = write_match(lines.pattern, texts, random)
        found = lines.compiled.fullmatch(line)
        if found is not None and all(found[name] == text for name, text in texts.items() if name in found.groupdict()):
            return line
        for name in [each for each in texts if each != self.topic.event_time.field]:
            single = write_match(lines.pattern, {name: texts[name]}, random)
            match = lines.compiled.fullmatch(single)
            if match is None or match.groupdict().get(name) != texts[name]:
                texts = {each: text for each, text in texts.items() if each != name}
        return write_match(lines.pattern, texts, random)


def _make_id(each: RecordField, number: int, parts: int) -> Any:
    """An id, or a part of one: a number, or a text with the number in it."""
    if each.kind == "int":
        return number % INT64_MAX or 1
    if each.choices:
        return each.choices[number % len(each.choices)]
    return str(UUID(int=number, version=4)) if parts == 1 else f"{each.name}-{number:x}"


def _nest(topic: Topic, document: Document) -> Document:
    """The document with each field at its path."""
    nested: Document = {}
    for each in topic.fields:
        if each.name not in document:
            continue
        holder = nested
        for key in each.path[:-1]:
            holder = holder.setdefault(key, {})
        holder[each.path[-1]] = document[each.name]
    # What is no field's stands at the top, under its own name.
    known = {each.name for each in topic.fields}
    return nested | {name: value for name, value in document.items() if name not in known}


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
