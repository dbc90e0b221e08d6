"""What every format gives: the shape of a schema, and a function from its bytes to a plain value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from platform_assets.streaming.formats.outcomes import Outcomes
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.formats.shapes import Shape

if TYPE_CHECKING:
    from platform_assets.streaming.formats.byte_columns import Column, Cursor

_T = TypeVar("_T")
# A process reads some topics with some tens of schemas each.
_REMEMBERED_SCHEMAS = 256


class SchemaError(Exception):
    """A schema cannot be used: its text is broken, or a value of it cannot be carried without loss. Says why."""


class UndecodableError(Exception):
    """Bytes are no value of their schema, or one that JSON has no form for. Says why, in few words."""


@dataclass(frozen=True)
class ValueReader:
    """Reads the values of one schema, in this process only (its functions are compiled).

    `read` takes the bytes behind the frame, whole, and gives the record's JSON form as Python has it: a dict of None,
    bool, int, float (finite), Decimal, str, bytes (base64 in JSON), date, datetime, list and dict. It raises
    `UndecodableError`, whatever the bytes, and never anything else; trailing bytes are an error. Of any thread.
    """

    shape: Shape
    read: Callable[[bytes], dict[str, Any]]
    read_many: Callable[[Sequence[bytes]], list[dict[str, Any]] | None] | None = None
    """The same for many, at less cost; None where one of them cannot be read, and who asks reads each by itself."""
    read_columns: Callable[[Cursor], Mapping[str, Column]] | None = None
    """The same for many as columns, by member, at a tenth of the cost; the cursor says which values it has not read."""
    validate: Callable[[bytes], None] | None = None
    """Whether the schema allows the value, of formats whose `read` does not say so. Raises `UndecodableError`."""


@dataclass(frozen=True)
class SchemaReaders:
    """The readers of one schema's types of records, in this process only.

    `split` takes what stands behind the frame apart: which type of the schema it is (a place, empty where there is one
    type), and the value. It raises `UndecodableError`. `find` gives the reader of a type, or raises `SchemaError`.
    `is_json`: the value is JSON text already, and need not be read. `places` are the types that the schema has.
    `usual`: a type, and the bytes that stand in front of each value of it and of no other; its values are columns.
    """

    split: Callable[[bytes], tuple[tuple[int, ...], bytes]]
    find: Callable[[tuple[int, ...]], ValueReader]
    is_json: bool = False
    places: tuple[tuple[int, ...], ...] = ((),)
    usual: tuple[tuple[int, ...], bytes] | None = None


def compiled_once(read: Callable[[RegisteredSchema], _T]) -> Callable[[RegisteredSchema], _T]:
    """Has a process compile each schema once: a reader is the same one each time, and a `SchemaError` is remembered."""
    outcomes = Outcomes[RegisteredSchema, _T](SchemaError, _REMEMBERED_SCHEMAS)

    @wraps(read)
    def find(schema: RegisteredSchema) -> _T:
        return outcomes.find(schema, lambda: read(schema))

    return find
