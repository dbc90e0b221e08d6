"""Records that are made of Kafka's headers too: values with the fields of headers, and CloudEvents.

Both become one value, which the contract judges like that of any topic. What the headers say is trusted no more than a
value is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

import msgspec

from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.ingest.field_values import Number
from platform_assets.streaming.ingest.json_values import decode_members, read_text
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_lists import decode_list
from platform_assets.streaming.topic_spec import CloudEvents, TextLines, Topic

Headers: TypeAlias = Sequence[Mapping[str, Any]] | None
"""A record's headers, as `topic_tables.HEADERS_TYPE` has them: mappings of `key` and `value`."""

# The names by the binding of CloudEvents 1.0 to Kafka.
_PREFIX, _CONTENT_TYPE, _VERSION = "ce_", "content-type", "1.0"
_STRUCTURED, _BATCH = "application/cloudevents", "application/cloudevents-batch"
_STRUCTURED_AVRO = "application/cloudevents+avro"
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.encode


def add_headers(value: bytes | None, headers: Headers, topic: Topic, data: bytes | None = None) -> bytes | None:
    """The record's value with what the topic takes out of the headers: JSON, of a line a `LineWithHeaders`.

    `data`: the JSON of a CloudEvent's data in the binary mode, where a schema of a registry wrote it. Raises
    `RejectedRecordError` (bad_envelope) for headers that are no text, a value that has a member which is a
    header's, sent or not, and a CloudEvent of another version, or one whose data is not what its content type says.
    """
    found = {header["key"]: header["value"] for header in headers or ()}
    if isinstance(topic.values, CloudEvents):
        value = _open_event(value, found, data)
    if value is None or not topic.headers:
        return value
    texts = {
        each: _read_text(name, found[name])
        for each in topic.fields
        if (name := topic.headers.get(each.name)) is not None and found.get(name) is not None
    }
    if isinstance(topic.values, TextLines):
        return pack_line(LineWithHeaders(value, {each.name: text for each, text in texts.items()}))
    members = {each.path[0]: _as_raw(read_text(each.kind, text)) for each, text in texts.items()}
    names = {each.path[0] for each in topic.fields if each.name in topic.headers}
    if not topic.is_list:
        return _add_members(value, members, names)
    try:
        items = decode_list(value)
    except (msgspec.MsgspecError, RecursionError):  # no list: the contract says so
        return value
    return b"[" + b",".join(_add_members(bytes(item), members, names) for item in items) + b"]"


class LineWithHeaders(NamedTuple):
    """A line of text, and the texts of its headers by field."""

    line: bytes
    fields: Mapping[str, str]


def pack_line(found: LineWithHeaders) -> bytes:
    """The one value that the two are until the contract reads them (`unpack_line`)."""
    return msgspec.msgpack.encode(found)


unpack_line = msgspec.msgpack.Decoder(LineWithHeaders).decode


def is_in_binary_mode(headers: Headers) -> bool:
    """Whether a CloudEvent's value is its data. Raises `RejectedRecordError` for a content type that is no text."""
    found = {header["key"]: header["value"] for header in headers or ()}
    return found.get(f"{_PREFIX}specversion") is not None and not _find_media_type(found).startswith(_STRUCTURED)


def _add_members(value: bytes, members: Mapping[str, msgspec.Raw], names: Set[str]) -> bytes:
    """A JSON object with these members behind its own. What is no object is left as it is: the contract says so.

    `names` are those of all fields that are headers'.
    """
    try:
        own = decode_members(value)
    except (msgspec.MsgspecError, RecursionError):
        return value
    if twice := own.keys() & names:
        said = f"{', '.join(sorted(twice))} is in the value, where a header has it"
        raise RejectedRecordError(Reason.BAD_ENVELOPE, said)
    if not members:
        return value
    comma = b"," if own else b""
    return value.rstrip().removesuffix(b"}") + comma + _encode(members)[1:]


def _open_event(value: bytes | None, headers: Mapping[str, bytes | None], data: bytes | None) -> bytes | None:
    """The structured form of a CloudEvent. Its content type says that it is in that form, whatever headers it has.

    A record without a content type and without the headers of an event is taken for one in that form.
    """
    version = headers.get(f"{_PREFIX}specversion")
    content_type, media_type = _read_text(_CONTENT_TYPE, headers.get(_CONTENT_TYPE)), _find_media_type(headers)
    if media_type.startswith(_BATCH):
        raise RejectedRecordError(Reason.BAD_ENVELOPE, "several CloudEvents in one record, which Kafka has no mode for")
    if media_type == _STRUCTURED_AVRO and value is not None:
        value = _read_avro(value)
    if version is None or media_type.startswith(_STRUCTURED):
        return _check_version(value)
    if (text := _read_text(f"{_PREFIX}specversion", version)) != _VERSION:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"a CloudEvent of version {text!r}; {_VERSION} is read")
    attributes: dict[str, Any] = {
        name.removeprefix(_PREFIX): _read_text(name, raw)
        for name, raw in headers.items()
        if name.startswith(_PREFIX) and raw is not None
    }
    if content_type:
        attributes["datacontenttype"] = content_type
    for taken in (attributes.keys() & {"data", "data_base64"}) if value is not None else ():
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"the header {_PREFIX}{taken} is no attribute of an event")
    if data is not None:
        attributes["data"] = msgspec.Raw(data)
    elif value is not None:
        attributes |= _read_data(value, attributes.get("datacontenttype", "application/json"))
    return _encode(attributes)


def _read_avro(value: bytes) -> bytes:
    """The JSON of an event that is Avro in the structured mode."""
    from platform_assets.streaming.formats.avro_events import read_avro_event

    try:
        attributes, data = read_avro_event(value)
    except UndecodableError as error:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"no {_STRUCTURED_AVRO}: {error}") from None
    for taken in attributes.keys() & {"data", "data_base64"}:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"{taken} is no attribute of an event")
    found = {name: each for name, each in attributes.items() if each is not None}
    if isinstance(data, bytes):
        found |= _read_data(data, str(found.get("datacontenttype", "application/json")))
    elif data is not None:
        found["data"] = data
    return _encode(found)


def _find_media_type(headers: Mapping[str, bytes | None]) -> str:
    return _read_text(_CONTENT_TYPE, headers.get(_CONTENT_TYPE)).partition(";")[0].strip().lower()


def _check_version(value: bytes | None) -> bytes | None:
    """An event in its structured form. One without a version is left to the contract."""
    try:
        version = {} if value is None else decode_members(value)
        found = msgspec.json.decode(version.get("specversion", b'"1.0"'))
    except (msgspec.MsgspecError, RecursionError):
        return value
    if found != _VERSION:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"a CloudEvent of version {found!r}; {_VERSION} is read")
    return value


def _read_data(value: bytes, content_type: str) -> dict[str, Any]:
    """The member of the structured form that holds the data, by its content type (RFC 2045)."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.endswith(("/json", "+json")):
        try:
            return {"data": _decode_any(value)}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedRecordError(Reason.BAD_ENVELOPE, f"the data is no {media_type}: {error}") from None
    if media_type.startswith("text/"):
        return {"data": _read_text("the data", value)}
    return {"data_base64": base64.b64encode(value).decode()}


def _read_text(name: str, raw: bytes | None) -> str:
    try:
        return (raw or b"").decode()
    except UnicodeDecodeError as error:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"{name} is no UTF-8: {error}") from None


def _as_raw(found: Any) -> msgspec.Raw:
    return msgspec.Raw(found.encode() if isinstance(found, Number) else _encode(found))
