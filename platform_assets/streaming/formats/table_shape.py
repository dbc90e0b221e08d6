"""The shape of a table's rows, by which they are written for readers outside of the platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.shapes import Member, Shape, nullable, require_one
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

# Protobuf knows a field by its number. Tables get new columns at their end, so a table's numbers begin at a place that
# no column of another table reaches.
_NUMBERS_PER_TABLE = 1_000
_SCALARS = {
    "string": Shape("text"), "int32": Shape("int", bits=32), "int64": Shape("int"), "double": Shape("float"),
    "bool": Shape("bool"), "binary": Shape("bytes"), "date32[day]": Shape("date"),
    "timestamp[us, tz=UTC]": Shape("timestamp", unit="us"),
}  # fmt: skip


def read_table_shape(tables: Sequence[TableSpec]) -> Shape:
    """The shape of a topic's values, each of which is a row of one of these tables. The first gives the name.

    A column that not all of them have may be null. Raises `SchemaError` for a column that has two types, and for a map
    whose keys are no texts.
    """
    first = tables[0]
    members = {member.name: member for member in _list_members(first, 0)}
    for place, table in enumerate(tables[1:], 1):
        others = {member.name: member for member in _list_members(table, place)}
        for name in [*members, *(name for name in others if name not in members)]:
            one, other = members.get(name), others.get(name)
            if one is not None and other is not None and (found := require_one(one.shape)) != require_one(other.shape):
                said = f"{found.say()} in {first.name}, and {require_one(other.shape).say()} in {table.name}"
                raise SchemaError(f"the column {name} is {said}")
            if one is None or other is None or one.may_be_absent or other.may_be_absent:
                member = one or others[name]
                members[name] = replace(member, shape=nullable(member.shape), may_be_absent=True)
    return Shape("record", members=tuple(members.values()), name=first.name)


def _list_members(table: TableSpec, place: int) -> Iterator[Member]:
    if len(table.columns) >= _NUMBERS_PER_TABLE:
        raise SchemaError(f"{table.name} has {len(table.columns)} columns: fewer than {_NUMBERS_PER_TABLE} are written")
    for number, column in enumerate(table.columns, place * _NUMBERS_PER_TABLE + 1):
        shape = _read_column(table, column)
        shape = nullable(shape) if column.nullable else shape
        yield Member(column.name, shape, column.nullable, column.description, number)


def _read_column(table: TableSpec, column: Column) -> Shape:
    of_table = table.name.rpartition(".")[2]
    return _read(as_arrow(column.type), column.name, f"{of_table}_{column.name}")


def _read(of: pa.DataType, column: str, name: str) -> Shape:
    """The shape of a type; `name` is that of a record there. What lies in a column may be null at any depth."""
    import pyarrow as pa

    if pa.types.is_list(of):
        return Shape("list", item=nullable(_read(of.value_type, column, name)))
    if pa.types.is_map(of):
        if not pa.types.is_string(of.key_type):
            raise SchemaError(f"the column {column} has a map whose keys are no texts")
        return Shape("map", item=nullable(_read(of.item_type, column, name)))
    if pa.types.is_decimal(of):
        return Shape("decimal", digits=(of.precision, of.scale))
    if pa.types.is_struct(of):
        read = [(each.name, _read(each.type, column, f"{name}_{each.name}")) for each in of]
        members = tuple(Member(key, nullable(shape), True, "", place) for place, (key, shape) in enumerate(read, 1))
        return Shape("record", members=members, name=name)
    return _SCALARS[str(of)]
