"""The message index: which message type of a schema a Protobuf value has. It stands between the frame and the value.

It is a count and that many places, each a varint in zigzag form: the place of a message among those of the file, and
then the place of a message that is declared in it. A count of 0 stands for the first message.
"""

from __future__ import annotations

from typing import TypeAlias

from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.varint import write_zigzag

MessageIndex: TypeAlias = tuple[int, ...]

FIRST: MessageIndex = (0,)
# The compiler lets no message lie deeper: a larger count is no index, and reading its places would take time.
_MOST_PLACES = 32
# A place has 31 bits, which are five bytes of a varint. Without a limit, bytes could be read as one endless number.
_MOST_BYTES = 5


def split_index(value: bytes) -> tuple[MessageIndex, bytes]:
    """The index and the message behind it. Raises `UndecodableError` where the bytes begin with no index."""
    if value[:1] == b"\0":
        return FIRST, value[1:]
    count, at = _read_number(value, 0)
    if not 0 <= count <= _MOST_PLACES:
        raise UndecodableError(f"the message index has {count} places")
    places = []
    for _ in range(count):
        place, at = _read_number(value, at)
        if place < 0:
            raise UndecodableError(f"the message index has the place {place}")
        places.append(place)
    return tuple(places) or FIRST, value[at:]


def write_index(index: MessageIndex) -> bytes:
    """The bytes of an index, as serializers write it: one zero byte for the first message."""
    if index == FIRST:
        return b"\0"
    return b"".join(write_zigzag(each) for each in (len(index), *index))


def _read_number(value: bytes, start: int) -> tuple[int, int]:
    number = 0
    for at, byte in enumerate(value[start : start + _MOST_BYTES]):
        number |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            if at and not byte:
                raise UndecodableError("the message index has a number with needless bytes")
            return (number >> 1) ^ -(number & 1), start + at + 1
    raise UndecodableError("the message index is not complete")
