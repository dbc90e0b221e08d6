"""Reads the messages of a Protobuf type as columns, where all its fields are plain ones or timestamps.

Writers write fields by their numbers, each once. A message with fields in another order, twice, or unknown ones is not
read to its end here: it is odd, and read by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from platform_assets.streaming.formats.byte_columns import Bools, Column, Cursor
from platform_assets.streaming.formats.protobuf_plan import name_numbers
from platform_assets.streaming.formats.varint import write_varint

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

ReadField: TypeAlias = Callable[[Cursor], Column]
ReadPlain: TypeAlias = Callable[[Cursor, Bools], Column]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
# From here on a number is another one in the runtime, which takes the lowest bits.
_LIMITS = {
    FieldDescriptor.TYPE_INT32: 2**31, FieldDescriptor.TYPE_SINT32: 2**31, FieldDescriptor.TYPE_UINT32: 2**32,
    FieldDescriptor.TYPE_INT64: 2**63 - 1, FieldDescriptor.TYPE_SINT64: 2**63 - 1,
}  # fmt: skip
# From the beginning of the year 1 to the end of the year 9999: the type has no other moments.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
# A message of two numbers takes less than 128 bytes: its length is one of them.
_TIMESTAMP_LIMIT = 128


def find_column_reader(descriptor: Descriptor) -> Callable[[Cursor], Mapping[str, Column]] | None:
    """A function that reads many messages of a type, by field; None where it has another field.

    What it reads it reads as `protobuf_values` does. It marks the messages of which it cannot say that.
    """
    fields = sorted(descriptor.fields, key=lambda each: each.number)
    readers = [(each.name, _find_field(each)) for each in fields]
    found = [(name, read) for name, read in readers if read is not None]
    if not fields or len(found) < len(fields):
        return None
    return lambda cursor: {name: read(cursor) for name, read in found}


def _find_field(each: FieldDescriptor) -> ReadField | None:
    of_choice = each.containing_oneof is not None and len(each.containing_oneof.fields) > 1
    if each.is_repeated or each.is_required or of_choice:
        return None
    found = _find_plain(each)
    if found is None:
        return None
    wire_type, read = found
    tag = write_varint(each.number << 3 | wire_type)
    return lambda cursor: _read_present(cursor, read, tag, each.has_presence)


def _read_present(cursor: Cursor, read: ReadPlain, tag: bytes, has_presence: bool) -> Column:
    """A field where its tag is; where it is not, it is absent, or has the value 0 or the empty text."""
    number, mask = np.uint64(int.from_bytes(tag, "little")), np.uint64((1 << 8 * len(tag)) - 1)
    # The bytes behind a message are the next one's, or of the frame: what would be read there is beyond its end.
    is_there = ((cursor.words[cursor.at] & mask) == number) & cursor.find_unread()
    cursor.skip(len(tag), is_there)
    found = read(cursor, is_there)
    if has_presence:
        return found
    if found.lengths is not None:
        return Column(found.values, None, found.lengths * is_there)
    return Column(np.where(is_there, found.values, np.zeros((), found.values.dtype)), symbols=found.symbols)


def _find_plain(each: FieldDescriptor) -> tuple[int, ReadPlain] | None:
    """The wire type of a field's values, and the function that reads them."""
    match each.type:
        case FieldDescriptor.TYPE_STRING:
            return _BYTES, lambda cursor, is_there: cursor.read_texts(_read_counts(cursor, is_there), is_there)
        case FieldDescriptor.TYPE_DOUBLE:
            return _EIGHT_BYTES, lambda cursor, is_there: Column(cursor.read_doubles(is_there), is_there)
        case FieldDescriptor.TYPE_FLOAT:
            return _FOUR_BYTES, lambda cursor, is_there: Column(cursor.read_floats(is_there), is_there)
        case FieldDescriptor.TYPE_BOOL:
            return _VARINT, _read_bools
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT32:
            # A negative number takes ten bytes, and is odd for their number.
            return _VARINT, _find_int(_LIMITS[each.type])
        case FieldDescriptor.TYPE_SINT32 | FieldDescriptor.TYPE_SINT64:
            return _VARINT, _find_zigzag(_LIMITS[each.type])
        case FieldDescriptor.TYPE_ENUM:
            return _find_enum(each)
        case FieldDescriptor.TYPE_MESSAGE if each.message_type.full_name == "google.protobuf.Timestamp":
            is_known = each.message_type.file.name.startswith("google/protobuf/")
            return (_BYTES, _read_timestamps) if is_known else None
    return None


def _read_counts(cursor: Cursor, is_there: Bools) -> Int64s:
    found: Int64s = cursor.read_varints(is_there).view(np.int64)
    return found


def _read_bools(cursor: Cursor, is_there: Bools) -> Column:
    found = cursor.read_bytes(is_there)
    cursor.mark_odd(found > 1, is_there)
    return Column(found == 1, is_there)


def _find_int(limit: int) -> ReadPlain:
    def read(cursor: Cursor, is_there: Bools) -> Column:
        numbers = _read_counts(cursor, is_there)
        cursor.mark_odd(numbers >= limit, is_there)
        return Column(numbers, is_there)

    return read


def _find_zigzag(limit: int) -> ReadPlain:
    def read(cursor: Cursor, is_there: Bools) -> Column:
        numbers = cursor.read_zigzags(is_there)
        cursor.mark_odd((numbers < -limit) | (numbers >= limit), is_there)
        return Column(numbers, is_there)

    return read


def _find_enum(each: FieldDescriptor) -> tuple[int, ReadPlain] | None:
    """Its symbols, where they are counted from 0 without a gap; others are rare."""
    names = name_numbers(each)
    if sorted(names) != list(range(len(names))) or None in names.values():
        return None
    symbols = tuple(names[number] for number in range(len(names)))

    def read(cursor: Cursor, is_there: Bools) -> Column:
        numbers = _read_counts(cursor, is_there)
        cursor.mark_odd(numbers >= len(symbols), is_there)
        return Column(numbers, is_there, symbols=symbols)

    return _VARINT, read


def _read_timestamps(cursor: Cursor, is_there: Bools) -> Column:
    """Microseconds since 1970; a moment with parts of a microsecond is odd."""
    lengths = cursor.read_bytes(is_there).astype(np.int64)
    cursor.mark_odd(lengths >= _TIMESTAMP_LIMIT, is_there)
    ends = cursor.at + lengths
    seconds = _read_part(cursor, is_there, ends, b"\x08")
    nanos = _read_part(cursor, is_there, ends, b"\x10")
    micros, rest = np.divmod(nanos, 1_000)
    is_moment = (seconds >= _FIRST_SECOND) & (seconds <= _LAST_SECOND) & (nanos < 1_000_000_000) & (rest == 0)
    cursor.mark_odd((cursor.at != ends) | ~is_moment, is_there)
    return Column(np.where(is_moment, seconds, 0) * 1_000_000 + micros, is_there)


def _read_part(cursor: Cursor, is_there: Bools, ends: Int64s, tag: bytes) -> Int64s:
    """A number of a message inside, 0 where it is not set."""
    is_set: Any = is_there & (cursor.at < ends) & (cursor.data[cursor.at] == tag[0])
    cursor.skip(1, is_set)
    found: Int64s = np.where(is_set, _read_counts(cursor, is_set), 0)
    return found
