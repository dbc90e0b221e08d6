"""What Kafka Connect writes otherwise than JSON has it: days as numbers, exact decimals as bytes, values left out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from platform_assets.streaming.ingest.json_values import decode_members
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.record_types import RecordField

_EPOCH = date(1970, 1, 1)
_DAYS = range((date.min - _EPOCH).days, (date.max - _EPOCH).days + 1)
_WHOLE = re.compile(rb"-?\d{1,7}")
# What Debezium writes for a value that Postgres did not send: a large one (TOAST) that the update did not change.
_UNAVAILABLE = "__debezium_unavailable_value"
_MARKS = (_UNAVAILABLE.encode(), base64.b64encode(_UNAVAILABLE.encode()), _UNAVAILABLE.encode().hex().encode())
_DECIMAL = "org.apache.kafka.connect.data.Decimal"
# An unscaled number is as long as its sender likes, and takes the square of its length to be written. A column has 38
# digits, which are 16 bytes.
_MOST_BYTES = 32
_SCALES = range(-38, 1_000)

_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class RowFields:
    """Brings the fields of rows into the JSON that the contract of a topic judges. `fields` are the record's."""

    def __init__(self, fields: Sequence[RecordField]) -> None:
        own = [each for each in fields if len(each.path) == 1]
        self._dates = {each.path[0] for each in own if each.kind == "date"}
        self._decimals = {each.path[0] for each in own if each.kind == "decimal"}

    def adapt(self, row: bytes, before: bytes, schema: bytes, image: str) -> bytes:
        """The row's JSON object, adapted; `image` says which part of the event it is ("" for a key), by its schema.

        Raises `RejectedRecordError` for an `after` that lacks a value which the source did not send, and which `before`
        (the row as it was, where the source knows it) does not have either. Of a row that is gone such a value is left
        out.
        """
        has_marks = any(mark in row for mark in _MARKS)
        decimals = _find_scales(schema, image) if schema and self._decimals else {}
        if not has_marks and not self._dates and not decimals:
            return row
        try:
            members = decode_members(row)
            known = decode_members(before) if has_marks and before.startswith(b"{") else {}
        except _NOT_READ as error:
            raise RejectedRecordError(Reason.NOT_JSON, str(error)) from None
        if has_marks and image == "after":
            members = {name: _fill(name, raw, known) for name, raw in members.items()}
        elif has_marks:
            members = {name: raw for name, raw in members.items() if not _is_unavailable(raw)}
        return msgspec.json.encode({name: self._adapt(name, raw, decimals) for name, raw in members.items()})

    def _adapt(self, name: str, raw: msgspec.Raw, scales: Mapping[str, int]) -> Any:
        text = bytes(raw)
        if name in self._dates and _WHOLE.fullmatch(text) and int(text) in _DAYS:
            return (_EPOCH + timedelta(days=int(text))).isoformat()
        if name in self._decimals and name in scales and text.startswith(b'"'):
            number = _read_unscaled(text[1:-1], scales[name])
            return raw if number is None else number
        return raw


def _fill(name: str, raw: msgspec.Raw, before: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    """A value, or the former one where the source did not send it again."""
    if not _is_unavailable(raw):
        return raw
    former = before.get(name)
    if former is None or bytes(former) == b"null" or _is_unavailable(former):
        raise RejectedRecordError(
            "unavailable_value",
            f"{name} was not sent: it is large, and the update left it as it was. Set REPLICA IDENTITY FULL for the "
            "table, or Debezium's ReselectColumnsPostProcessor",
        )
    return former


def _is_unavailable(raw: msgspec.Raw) -> bool:
    """Whether it is Debezium's mark, or a list or a map of marks."""
    text = bytes(raw).strip(b'[]{}": ')
    return any(text == mark for mark in _MARKS) or text == _MARKS[0] + b'":"' + _MARKS[0]


def _read_unscaled(text: bytes, scale: int) -> str | None:
    """The decimal whose unscaled number these are, as base64 of its bytes, the highest first; None for none."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not 0 < len(raw) <= _MOST_BYTES:
        return None
    number = Decimal(int.from_bytes(raw, "big", signed=True))
    return str(_shift(number, -scale))


def _shift(number: Decimal, digits: int) -> Decimal:
    """Moves the point without rounding: not by arithmetic, which has a precision."""
    sign, parts, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, parts, exponent + digits))


@lru_cache(maxsize=64)
def _find_scales(schema: bytes, image: str) -> Mapping[str, int]:
    """The scales of the exact decimals of an event's row, by field, as Kafka Connect's schema of the value has them.

    A schema that says nothing that can be read has none: the contract judges the values as they are then.
    """
    try:
        document = msgspec.json.decode(schema)
        fields = document["fields"]
        if image:
            fields = next(each for each in fields if each.get("field") == image)["fields"]
        return {
            each["field"]: scale
            for each in fields
            if each.get("name") == _DECIMAL and (scale := int(each["parameters"]["scale"])) in _SCALES
        }
    except (*_NOT_READ, LookupError, TypeError, ValueError, AttributeError, StopIteration):
        return {}
