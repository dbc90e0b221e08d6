"""Reads the values of an Avro schema as columns, where all its fields are plain ones or plain ones that may be null."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from platform_assets.streaming.formats.shapes import Shape
from platform_assets.streaming.moments import FIRST_MICROS, LAST_MICROS

if TYPE_CHECKING:
    from platform_assets.streaming.formats.byte_columns import Bools, Column, Cursor

ReadField: TypeAlias = Callable[["Cursor", "Bools | None"], "Column"]
_INT32S = 2**31


def find_column_reader(shape: Shape) -> Callable[[Cursor], Mapping[str, Column]] | None:
    """A function that reads many values of a record's shape, by member; None where it has another type.

    What it reads it reads as `avro_values` does. It marks the values of which it cannot say that.
    """
    fields = [(member.name, _find_field(member.shape)) for member in shape.members]
    if shape.kind != "record" or not fields:
        return None
    readers = [(name, read) for name, read in fields if read is not None]
    if len(readers) < len(fields):
        return None
    return lambda cursor: {name: read(cursor, None) for name, read in readers}


def _find_field(shape: Shape) -> ReadField | None:
    if shape.kind != "union":
        return _find_plain(shape)
    kinds = [branch.kind for branch in shape.branches]
    if len(kinds) != 2 or "null" not in kinds:
        return None
    place = 1 - kinds.index("null")
    read = _find_plain(shape.branches[place])
    return None if read is None else lambda cursor, _: _read_optional(cursor, read, place)


def _read_optional(cursor: Cursor, read: ReadField, place: int) -> Column:
    """A union with null: the number of its branch, as one byte, stands in front."""
    branches = cursor.read_bytes()
    is_there = branches == 2 * place
    cursor.mark_odd(~is_there & (branches != 2 - 2 * place))
    return read(cursor, is_there)


def _find_plain(shape: Shape) -> ReadField | None:
    match shape.kind:
        case "text":
            return lambda cursor, is_there: cursor.read_texts(cursor.read_zigzags(is_there), is_there)
        case "bool":
            return _read_bools
        case "int":
            return _find_int(-_INT32S, _INT32S - 1) if shape.bits == 32 else _find_int(-(2**63), 2**63 - 1)
        case "float":
            return _read_floats if shape.bits == 32 else _read_doubles
        case "enum":
            return _find_int(0, len(shape.symbols) - 1, shape.symbols)
        case "timestamp" if shape.unit in ("ms", "us"):
            per_count = 1_000 if shape.unit == "ms" else 1
            return _find_int(-(-FIRST_MICROS // per_count), LAST_MICROS // per_count, factor=per_count)
    return None


def _find_int(least: int, most: int, symbols: tuple[str, ...] = (), factor: int = 1) -> ReadField:
    """A whole number between these; others are odd."""

    def read(cursor: Cursor, is_there: Bools | None) -> Column:
        numbers = cursor.read_zigzags(is_there)
        cursor.mark_odd((numbers < least) | (numbers > most), is_there)
        return _column(numbers if factor == 1 else numbers * factor, is_there, symbols)

    return read


def _read_bools(cursor: Cursor, is_there: Bools | None) -> Column:
    found = cursor.read_bytes(is_there)
    cursor.mark_odd(found > 1, is_there)
    return _column(found == 1, is_there)


def _read_doubles(cursor: Cursor, is_there: Bools | None) -> Column:
    return _column(cursor.read_doubles(is_there), is_there)


def _read_floats(cursor: Cursor, is_there: Bools | None) -> Column:
    return _column(cursor.read_floats(is_there), is_there)


def _column(values: Any, is_there: Bools | None, symbols: tuple[str, ...] = ()) -> Column:
    from platform_assets.streaming.formats.byte_columns import Column

    return Column(values, is_there, symbols=symbols)
