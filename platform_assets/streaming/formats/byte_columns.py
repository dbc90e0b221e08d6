"""Reads one field of many values at once: each value lies at a place of its own in one buffer, and numpy reads all.

What is read here is what every writer writes in the usual case. A value that is anything else is marked as odd, and
who asks reads it by itself: nothing here says what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from platform_assets.streaming.arrays import Int64s

Bools: TypeAlias = npt.NDArray[np.bool_]
Words: TypeAlias = npt.NDArray[np.uint64]

# Values are looked at by eight bytes from their place on, and a short text by twelve: the last ones too.
PAD_BYTES = 32
# The places of texts are 32 bits in Arrow.
MOST_BYTES = 2**31 - PAD_BYTES
_ONE, _EIGHTH_BITS, _SEVEN_BITS = np.uint64(1), np.uint64(0x8080808080808080), np.uint64(0x7F7F7F7F7F7F7F7F)
# Three steps put groups of seven bits side by side: which bits stay, which move, and by how many.
_STEPS = tuple(
    (np.uint64(stay), np.uint64(move), np.uint64(by))
    for stay, move, by in (
        (0x007F007F007F007F, 0x7F007F007F007F00, 1),
        (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
        (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
    )
)
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_INLINE_BYTES, _PREFIX_BYTES, _HALF = 12, 4, np.uint64(32)


@dataclass(frozen=True)
class Column:
    """A member of many values. `is_there`: of which it is (the others are null or absent); None: of all.

    `values`: whole numbers (of times: microseconds since 1970), doubles, booleans, or the places of texts, with their
    `lengths` in bytes. `symbols`: the values are numbers of these texts. A value that is not there means nothing.
    """

    values: npt.NDArray[Any]
    is_there: Bools | None = None
    lengths: Int64s | None = None
    symbols: tuple[str, ...] = ()

    def take(self, rows: Int64s) -> Column:
        """The column of these rows only."""
        is_there = None if self.is_there is None else self.is_there[rows]
        return Column(self.values[rows], is_there, None if self.lengths is None else self.lengths[rows], self.symbols)


class Cursor:
    """The places in a buffer from which many values are read on. Of one thread."""

    def __init__(self, data: npt.NDArray[np.uint8], starts: Int64s, ends: Int64s) -> None:
        """`data` has `PAD_BYTES` behind the last end. The values are from `starts` to `ends`."""
        self.data = data
        self.at = starts.copy()
        self.words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        self._ends = ends
        self._is_odd = np.zeros(len(starts), dtype=bool)
        # Behind all ends: a value that goes on too long stays there, and is none of its length.
        self._limit = len(data) - PAD_BYTES + 1

    def mark_odd(self, is_odd: Bools, is_there: Bools | None = None) -> None:
        """Marks values that are to be read by themselves; only where the field is there."""
        self._is_odd |= is_odd if is_there is None else is_odd & is_there

    def find_read(self) -> Bools:
        """Which values were read whole, by exactly their bytes, and have nothing odd."""
        found: Bools = ~self._is_odd & (self.at == self._ends)
        return found

    def find_unread(self) -> Bools:
        """Which values have bytes left."""
        found: Bools = self.at < self._ends
        return found

    def skip(self, lengths: Any, is_there: Bools | None = None) -> None:
        """Goes on by these bytes; only where the field is there."""
        self.at += lengths if is_there is None else lengths * is_there
        np.minimum(self.at, self._limit, out=self.at)

    def read_bytes(self, is_there: Bools | None = None) -> npt.NDArray[np.uint8]:
        """A byte of each."""
        found = self.data[self.at]
        self.skip(1, is_there)
        return found

    def read_varints(self, is_there: Bools | None = None) -> Words:
        """A whole number of up to 56 bits, seven bits a byte; a longer one is odd."""
        words = self.words[self.at]
        ends = ~words & _EIGHTH_BITS
        last = ends & (~ends + _ONE)  # the eighth bit of the last byte, which is not set
        below = last - _ONE
        self.mark_odd(last == 0, is_there)
        self.skip((np.bitwise_count(below).astype(np.int64) + 1) >> 3, is_there)
        numbers = words & below & _SEVEN_BITS
        for stay, move, by in _STEPS if bool((last > 0x80).any()) else ():
            numbers = (numbers & stay) | ((numbers & move) >> by)
        return numbers

    def read_zigzags(self, is_there: Bools | None = None) -> Int64s:
        """The same with a sign in its lowest bit."""
        numbers = self.read_varints(is_there)
        found: Int64s = (numbers >> _ONE).view(np.int64) ^ -(numbers & _ONE).view(np.int64)
        return found

    def read_doubles(self, is_there: Bools | None = None) -> npt.NDArray[np.float64]:
        """A double; NaN and the infinities are odd."""
        found = self.words[self.at].view(np.float64)
        self.skip(8, is_there)
        self.mark_odd(~np.isfinite(found), is_there)
        return found

    def read_floats(self, is_there: Bools | None = None) -> npt.NDArray[np.float64]:
        """A number of 32 bits as the double that it is; NaN and the infinities are odd."""
        bits = (self.words[self.at] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        with np.errstate(invalid="ignore"):
            found = bits.view(np.float32).astype(np.float64)
        self.skip(4, is_there)
        self.mark_odd(~np.isfinite(found), is_there)
        return found

    def read_texts(self, lengths: Int64s, is_there: Bools | None) -> Column:
        """A text of this many bytes."""
        self.mark_odd(lengths < 0, is_there)
        starts = self.at.copy()
        # More than the buffer has is too long in any case, and must not become another number by a sum.
        lengths = np.clip(lengths, 0, len(self.data))
        self.skip(lengths, is_there)
        return Column(starts, is_there, lengths)


def build_texts(cursor: Cursor, column: Column, rows: Int64s | None) -> pa.Array:
    """The texts of these rows (None: of all), which were read. Raises `ArrowInvalid` where one is not UTF-8."""
    taken = column if rows is None else column.take(rows)
    assert taken.lengths is not None
    starts, lengths, is_there = taken.values, taken.lengths, taken.is_there
    if is_there is not None:
        lengths = np.where(is_there, lengths, 0)
    first, rest = cursor.words[starts], cursor.words[starts + _PREFIX_BYTES]
    views = np.empty((len(starts), 2), np.uint64)
    prefix = first & _FIRST_BYTES[np.minimum(lengths, _PREFIX_BYTES)]
    views[:, 0] = lengths.view(np.uint64) | (prefix << _HALF)
    # Behind the first four bytes are eight more of a short text, or the buffer's number, which is 0, and the place.
    inline = rest & _FIRST_BYTES[np.clip(lengths - _PREFIX_BYTES, 0, 8)]
    views[:, 1] = np.where(lengths <= _INLINE_BYTES, inline, starts.view(np.uint64) << _HALF)
    buffers = [build_validity(is_there), pa.py_buffer(views), pa.py_buffer(cursor.data)]
    found = pa.Array.from_buffers(pa.binary_view(), len(starts), buffers)
    return found.cast(pa.binary()).cast(pa.string())


def build_validity(is_there: Bools | None) -> pa.Buffer | None:
    """Arrow's bits for what is there; None for all."""
    return None if is_there is None else pa.py_buffer(np.packbits(is_there, bitorder="little"))
