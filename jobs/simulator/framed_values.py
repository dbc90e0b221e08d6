"""Writes the JSON values of a simulated topic by a schema of its contract, which a registry has, in Confluent's frame.

A value that the schema has no place for (a malformed one as a rule) is sent as it is, without a frame.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import partial
from typing import Any

import msgspec

from jobs.simulator.simulated_topic import CompanionRecord, Record
from platform_assets.errors import UsageError
from platform_assets.streaming.compression import compress, decompress
from platform_assets.streaming.formats.contract_shape import fit_protobuf, read_contract_shape
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import SchemaTarget
from platform_assets.streaming.formats.shapes import Shape, require_one
from platform_assets.streaming.formats.writers import open_writer, write_schema
from platform_assets.streaming.topic_spec import TextLines, Topic

# A larger value is malformed for its size alone, and would lose that in another format: blanks are none of its record.
_MOST_BYTES = 1_048_576
# The simulator has compressed it itself: it is as long as it was made.
_LONGEST_BYTES = 1 << 30
_MOST = {32: 2**31, 64: 2**63}
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
Read = Callable[[Any], Any]


class FramedValues:
    """The values of one topic. `unframed`: how many were sent as they are, tombstones apart. On one thread."""

    def __init__(self, topic: Topic, kafka_topic: str, target: SchemaTarget) -> None:
        """Registers the schema as `<kafka_topic>-value`; raises what that raises.

        Raises `UsageError` for a topic whose records the format has no place for, or that are no JSON objects.
        """
        self.unframed = 0
        self._compression = topic.compression
        if topic.is_list or isinstance(topic.values, TextLines):
            raise UsageError(f"A schema is for a record, and the values of {topic.name} are lists or lines of text.")
        try:
            shape = read_contract_shape(topic)
            schema = write_schema(fit_protobuf(shape) if target.format == "protobuf" else shape, target.format)
        except SchemaError as error:
            raise UsageError(f"The records of {topic.name} cannot be written by --encoding: {error}.") from None
        # Not the schema's shape: one that was made before may have other defaults.
        self._read = _read_record(shape, is_top=True)
        self._write = open_writer(schema)
        self._schema_id = target.register(f"{kafka_topic}-value", target.format, schema.text)

    def write(self, value: bytes | None) -> bytes | None:
        """The value in its frame; what is no value of the schema stays as it is."""
        if value is None or self._compression is None:
            return None if value is None else self._write_plain(value)
        plain = decompress(value, self._compression, _LONGEST_BYTES)
        return compress(self._write_plain(plain), self._compression)

    def _write_plain(self, value: bytes) -> bytes:
        if len(value) <= _MOST_BYTES:
            try:
                return frame(self._schema_id, self._write(self._read(_decode(value))))
            except (ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError):
                pass  # it is counted, and sent as it is
        self.unframed += 1
        return value


def frame_records(records: Iterable[Record], topic: str, values: Mapping[str, FramedValues]) -> Iterator[Record]:
    """The records with their values written by `values`, by the topic on the broker; `topic` is that of most."""
    for record in records:
        sent_at, key, value = record
        if isinstance(record, CompanionRecord):
            yield CompanionRecord((sent_at, key, values[record.topic].write(value)), record.topic)
        else:
            yield sent_at, key, values[topic].write(value)


def _read_record(shape: Shape, *, is_top: bool) -> Read:
    """Reads an object; at the top, what the schema does not name is left out, as senders of a known schema do."""
    reads = [(each.name, _or_null(each.shape), each.may_be_absent, each.default) for each in shape.members]
    known = {each.name for each in shape.members}

    def read(value: Any) -> dict[str, Any]:
        _require(value, dict)
        if not is_top and not value.keys() <= known:
            raise ValueError("a member that the contract does not know")
        found = {}
        for name, read_member, may_be_absent, default in reads:
            if name in value:
                found[name] = read_member(value[name])
            elif may_be_absent:
                found[name] = default
            else:
                raise ValueError(f"{name} is missing")
        return found

    return read


def _or_null(shape: Shape) -> Read:
    read = _find_read(require_one(shape))
    if not shape.is_nullable:
        return read
    return lambda value: None if value is None else read(value)


def _find_read(shape: Shape) -> Read:
    """What reads the JSON form of a value; it raises `ValueError` or `ArithmeticError` for what is none."""
    match shape.kind:
        case "record":
            return _read_record(shape, is_top=False)
        case "list" if shape.item is not None:
            read = _or_null(shape.item)
            return lambda value: [read(each) for each in _require(value, list)]
        case "map" if shape.item is not None:
            of_item = _or_null(shape.item)
            return lambda value: {key: of_item(each) for key, each in _require(value, dict).items()}
        case "int":
            return partial(_read_whole, most=_MOST[shape.bits])
        case "decimal" if shape.digits is not None:
            return partial(_read_decimal, precision=shape.digits[0], scale=shape.digits[1])
    return _READS[shape.kind]


def _require(value: Any, of: type) -> Any:
    """The value. Raises `ValueError` for one of another type; a boolean is no number."""
    if type(value) is not of:
        raise ValueError(f"{type(value).__name__} in the place of {of.__name__}")
    return value


def _read_whole(value: Any, most: int) -> int:
    if not -most <= _require(value, int) < most:
        raise ValueError("a number that is too large")
    return int(value)


def _read_double(value: Any) -> float:
    return float(value if type(value) is Decimal else _require(value, int))


def _read_decimal(value: Any, precision: int, scale: int) -> Decimal:
    number = Decimal(_require(value, int) if type(value) not in (str, Decimal) else value)
    exact = number.quantize(Decimal(1).scaleb(-scale), context=Context(prec=precision))
    if exact != number:
        raise ValueError("a decimal with more digits")
    return exact


def _read_moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(_require(value, str))
    if moment.tzinfo is None:
        raise ValueError("a moment without an offset")
    return moment.astimezone(UTC)


_READS: Mapping[str, Read] = {
    "text": lambda value: _require(value, str),
    "bool": lambda value: _require(value, bool),
    "float": _read_double,
    "bytes": lambda value: base64.b64decode(_require(value, str), validate=True),
    "date": lambda value: date.fromisoformat(_require(value, str)),
    "timestamp": _read_moment,
}
