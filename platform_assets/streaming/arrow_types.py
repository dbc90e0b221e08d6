"""Column types as Spark SQL spells them, as Arrow's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = {
    "string": "string",
    "int": "int32",
    "bigint": "int64",
    "double": "float64",
    "date": "date32",
    "binary": "binary",
    "boolean": "bool_",
}


@cache
def as_arrow(column_type: str) -> pa.DataType:
    """`bigint`, `decimal(18,2)`, `array<struct<name:string>>` and so on. A timestamp is in microseconds, UTC.

    Raises `KeyError` for a type that no public table has.
    """
    import pyarrow as pa

    if column_type == "timestamp":
        return pa.timestamp("us", tz="UTC")
    if found := re.fullmatch(r"decimal\((\d+),(\d+)\)", column_type):
        return pa.decimal128(*map(int, found.groups()))
    outer, _, rest = column_type.partition("<")
    inner = rest.removesuffix(">")
    if outer == "array":
        return pa.list_(as_arrow(inner))
    if outer == "map":
        key, value = _split(inner)
        return pa.map_(as_arrow(key), as_arrow(value))
    if outer == "struct":
        members = (member.partition(":") for member in _split(inner))
        return pa.struct([(name, as_arrow(of_type)) for name, _, of_type in members])
    return getattr(pa, _NAMES[column_type])()


def _split(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no bracket."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]
