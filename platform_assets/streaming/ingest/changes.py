"""Opens Debezium's change events: of each the row as JSON, with what the change says of itself, for the contract.

Plain Python over bytes, for each record of a batch on its own. A tombstone, the null value behind a delete, becomes a
row too: the Kafka record's key says whose.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from platform_assets.streaming.change_events import (
    OPERATION,
    OPERATIONS,
    POSITION,
    SOURCE,
    TIME,
    ChangeEvents,
    name_in_json,
)
from platform_assets.streaming.formats.registered_schema import SchemaSource, require_source
from platform_assets.streaming.ingest.change_positions import find_position, find_time
from platform_assets.streaming.ingest.changed_fields import RowFields
from platform_assets.streaming.ingest.field_values import name_json_type
from platform_assets.streaming.ingest.json_values import decode_members, parse_json
from platform_assets.streaming.ingest.opened_values import OpenedValues, open_texts
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.topic_spec import Topic

# What the decoders raise for a text that is not what they were made for.
_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# How the names of the facts begin: a column of the source's that begins so would stand for one.
_OWN = "__change_"
_NULL = b"null"
_TRUNCATED = (
    "op is 't': the source emptied the whole table, and names no row that went. Delete the rows one by one, or begin "
    "with a new topic"
)


class _Envelope(msgspec.Struct, gc=False):
    """A change event, or the wrapper that Kafka Connect's JsonConverter puts around it. A member may be absent."""

    op: msgspec.Raw = msgspec.Raw()
    before: msgspec.Raw = msgspec.Raw()
    after: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()
    ts_ms: msgspec.Raw = msgspec.Raw()
    ts_us: msgspec.Raw = msgspec.Raw()
    ts_ns: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()
    schema: msgspec.Raw = msgspec.Raw()


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def open_changes(
    batch: pa.RecordBatch, topic: Topic, max_bytes: int, schemas: SchemaSource | None = None
) -> OpenedValues:
    """The rows of a batch of (key, value, partition, offset, timestamp) of Kafka records, or why they are none.

    Those that schemas of a registry wrote are read as the JSON that they stand for. Raises what `open_values` raises,
    for such a topic only.
    """
    opened, opener = OpenedValues(), ChangeOpener(topic, None if topic.is_registered else max_bytes)
    keys, values, offsets = (batch.column(name).to_pylist() for name in ("key", "value", "offset"))
    if topic.is_registered:
        opened.refused = _read_framed(keys, values, topic, require_source(topic, schemas), max_bytes)
    sent = batch.column("timestamp").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    for row, (key, value, offset, sent_micros) in enumerate(zip(keys, values, offsets, sent, strict=True)):
        if row in opened.refused:
            continue
        try:
            opened.texts[row], is_partial = opener.open(key, value, offset, sent_micros)
        except RejectedRecordError as error:
            opened.refused[row] = error
        else:
            if is_partial:
                opened.partial.add(row)
    return opened


def _read_framed(
    keys: list[bytes | None], values: list[bytes | None], topic: Topic, source: SchemaSource, max_bytes: int
) -> dict[int, RejectedRecordError]:
    """Puts the JSON form in the place of each value that is there, and else of the key; why it has none, by row."""
    framed = [key if value is None else value for key, value in zip(keys, values, strict=True)]
    texts, refused = open_texts(framed, topic, source, max_bytes)
    for row, text in texts.items():
        (keys if values[row] is None else values)[row] = text
    return refused


class ChangeOpener:
    """Opens the change events of a topic. `max_bytes` None: values of any size, for they were judged before."""

    def __init__(self, topic: Topic, max_bytes: int | None) -> None:
        assert isinstance(topic.values, ChangeEvents), "The topic's values are no change events."
        self._max_bytes = max_bytes
        self._fields = RowFields(topic.fields)
        self._keys = {each.path[0] for each in topic.fields if each.name in topic.values.key}

    def open(self, key: bytes | None, value: bytes | None, offset: int, sent_micros: int | None) -> tuple[bytes, bool]:
        """The JSON that the contract judges, and whether its row is gone. `sent_micros` is the record's Kafka time.

        Raises `RejectedRecordError` for what is no change event of a row, whatever the bytes.
        """
        if value is None:
            return self._open_tombstone(key, offset, sent_micros), True
        if self._max_bytes is not None and len(value) > self._max_bytes:
            raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {self._max_bytes} are accepted")
        envelope = _read_envelope(value)
        schema = b""
        if not envelope.op and envelope.payload:
            if bytes(envelope.payload) == _NULL:
                return self._open_tombstone(key, offset, sent_micros), True
            schema = bytes(envelope.schema)
            envelope = _read_envelope(bytes(envelope.payload))
        letter = _read_operation(envelope.op)
        image = "before" if letter == "d" else "after"
        row = _require_object(getattr(envelope, image), image)
        source = _read_object(_require_object(envelope.source, "source"), "source")
        facts = {
            OPERATION: OPERATIONS[letter],
            TIME: find_time(source, _read_times(envelope) if letter == "r" else {}),
            POSITION: find_position(source, offset),
            SOURCE: _as_text(envelope.source, "source"),
        }
        row = self._fields.adapt(row, bytes(envelope.before), schema, image)
        return _join(row, facts), letter == "d"

    def _open_tombstone(self, key: bytes | None, offset: int, sent_micros: int | None) -> bytes:
        if key is None:
            raise RejectedRecordError(Reason.TOMBSTONE, "value and key are null: of no row")
        if sent_micros is None or sent_micros <= 0:
            raise RejectedRecordError(Reason.TOMBSTONE, "the value is null, and the record has no Kafka timestamp")
        try:
            members = decode_members(key)
            schema = bytes(members.get("schema", b""))
            if not self._keys <= members.keys() and "payload" in members:
                members = decode_members(members["payload"])
            else:
                schema = b""
        except _NOT_READ:
            raise RejectedRecordError(Reason.TOMBSTONE, "the value is null, and the key is no JSON object") from None
        if missing := sorted(self._keys - members.keys()):
            said = f"the value is null, and the key does not have {', '.join(missing)}"
            raise RejectedRecordError(Reason.TOMBSTONE, said)
        facts = {
            OPERATION: "tombstone", TIME: sent_micros, POSITION: find_position({}, offset), SOURCE: None,
        }  # fmt: skip
        row = msgspec.json.encode({name: members[name] for name in members if name in self._keys})
        return _join(self._fields.adapt(row, b"", schema, ""), facts)


def _read_envelope(value: bytes) -> _Envelope:
    try:
        return _decode_envelope(value)
    except _NOT_READ as error:
        document = parse_json(value)
        if isinstance(document, dict):
            raise RejectedRecordError(Reason.NOT_JSON, str(error)) from None
        said = f"the value is a JSON {name_json_type(document)}, not a change event"
        raise RejectedRecordError(Reason.WRONG_TYPE, said) from None


def _read_operation(raw: msgspec.Raw) -> str:
    if not raw or bytes(raw) == _NULL:
        said = (
            "op is missing: no change event. Rows that the sender has flattened (ExtractNewRecordState) are read as "
            "JsonValues"
        )
        raise RejectedRecordError(Reason.MISSING_FIELD, said)
    letter = _read_json(raw, "op")
    if not isinstance(letter, str):
        raise RejectedRecordError(Reason.WRONG_TYPE, f"op is {bytes(raw).decode(errors='replace')}, not a string")
    if letter not in OPERATIONS:
        said = _TRUNCATED if letter == "t" else f"op is {letter!r}: no change of a row (c, u, d, r)"
        raise RejectedRecordError(Reason.UNKNOWN_EVENT_TYPE, said)
    return letter


def _require_object(raw: msgspec.Raw, name: str) -> bytes:
    text = bytes(raw)
    if not text or text == _NULL:
        raise RejectedRecordError(Reason.MISSING_FIELD, f"{name} is missing or null")
    if not text.startswith(b"{"):
        said = f"{name} is a JSON {name_json_type(parse_json(text))}, not an object"
        raise RejectedRecordError(Reason.WRONG_TYPE, said)
    return text


def _read_object(text: bytes, name: str) -> dict[str, Any]:
    try:
        return _decode_object(text)
    except _NOT_READ as error:
        raise RejectedRecordError(Reason.NOT_JSON, f"{name}: {error}") from None


def _read_json(raw: msgspec.Raw, name: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except _NOT_READ as error:
        raise RejectedRecordError(Reason.NOT_JSON, f"{name}: {error}") from None


def _read_times(envelope: _Envelope) -> dict[str, Any]:
    """When Debezium made the event: for the row of a snapshot, of which an older connector has no other time."""
    times = {"ts_ns": envelope.ts_ns, "ts_us": envelope.ts_us, "ts_ms": envelope.ts_ms}
    return {name: _read_json(raw, name) for name, raw in times.items() if raw}


def _as_text(raw: msgspec.Raw, name: str) -> str:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise RejectedRecordError(Reason.NOT_JSON, f"{name}: {error}") from None


def _join(row: bytes, facts: dict[str, Any]) -> bytes:
    """The row's object with the facts. They come last: of two members of one name readers take the last."""
    if f'"{_OWN}'.encode() in row:
        taken = [name for name in _read_object(row, "the row") if name.startswith(_OWN)]
        if taken:
            raise RejectedRecordError(Reason.BAD_VALUE, f"the row has a column {taken[0]}, a name of the engine's")
    own = row.rstrip()[:-1].rstrip()
    added = msgspec.json.encode({name_in_json(name): fact for name, fact in facts.items()})[1:]
    return own + (b"" if own == b"{" else b",") + added
