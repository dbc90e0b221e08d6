"""Records that are made of Kafka's headers too: JSON with the fields of headers, and CloudEvents in their binary mode.

Both become one JSON text, which the contract judges like that of any topic. What the headers say is trusted no more
than a value is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from platform_assets.streaming.ingest.field_values import Number
from platform_assets.streaming.ingest.json_values import read_text
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.topic_spec import CloudEvents, Topic

Headers: TypeAlias = Sequence[Mapping[str, Any]] | None
"""A record's headers, as `topic_tables.HEADERS_TYPE` has them: mappings of `key` and `value`."""

# The names by the binding of CloudEvents 1.0 to Kafka.
_PREFIX, _CONTENT_TYPE, _VERSION = "ce_", "content-type", "1.0"
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def add_headers(value: bytes | None, headers: Headers, topic: Topic) -> bytes | None:
    """The JSON of a record: its value with what the topic takes out of the headers.

    Raises `RejectedRecordError` (bad_envelope) for headers that are no text, a value that has a member which a header
    gives, and a CloudEvent of another version, or one whose data is not what its content type says.
    """
    found = {header["key"]: header["value"] for header in headers or ()}
    if isinstance(topic.values, CloudEvents):
        value = _open_event(value, found)
    members = {
        each.path[0]: _as_raw(read_text(each.kind, _read_text(name, found[name])))
        for each in topic.fields
        if (name := topic.headers.get(each.name)) is not None and found.get(name) is not None
    }
    return value if value is None or not members else _add_members(value, members)


def _add_members(value: bytes, members: Mapping[str, msgspec.Raw]) -> bytes:
    """A JSON object with these members behind its own. What is no object is left as it is: the contract says so."""
    try:
        own = _decode_members(value)
    except (msgspec.MsgspecError, RecursionError):
        return value
    if twice := own.keys() & members.keys():
        said = f"a header gives {', '.join(sorted(twice))}, and the value has it too"
        raise RejectedRecordError(Reason.BAD_ENVELOPE, said)
    comma = b"," if own else b""
    return value.rstrip().removesuffix(b"}") + comma + _encode(members)[1:]


def _open_event(value: bytes | None, headers: Mapping[str, bytes | None]) -> bytes | None:
    """The structured form of a CloudEvent. A record without its headers is taken for one in that form."""
    version = headers.get(f"{_PREFIX}specversion")
    if version is None:
        return value
    if (text := _read_text(f"{_PREFIX}specversion", version)) != _VERSION:
        raise RejectedRecordError(Reason.BAD_ENVELOPE, f"a CloudEvent of version {text!r}; {_VERSION} is read")
    attributes: dict[str, Any] = {
        name.removeprefix(_PREFIX): _read_text(name, raw)
        for name, raw in headers.items()
        if name.startswith(_PREFIX) and raw is not None
    }
    content_type = headers.get(_CONTENT_TYPE)
    if content_type is not None:
        attributes["datacontenttype"] = _read_text(_CONTENT_TYPE, content_type)
    if value is not None:
        for taken in attributes.keys() & {"data", "data_base64"}:
            raise RejectedRecordError(Reason.BAD_ENVELOPE, f"the header {_PREFIX}{taken} is no attribute of an event")
        attributes |= _read_data(value, attributes.get("datacontenttype", "application/json"))
    return _encode(attributes)


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
