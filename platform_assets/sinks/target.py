"""The table in Postgres that a table's spec asks for, as a plain value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from platform_assets.errors import CatalogueError
from platform_assets.tables.spec import Column, TableSpec

JSON = "jsonb"

# As `format_type` spells them, so that they can be compared with what a table has.
_TYPES = {
    "string": "text",
    "int": "integer",
    "bigint": "bigint",
    "double": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "binary": "bytea",
}
# Postgres cuts a longer name without a word; a target's own names are longer by these suffixes.
_LONGEST_NAME = 63
_LONGEST_SUFFIX = "__loading_key"


@dataclass(frozen=True)
class TargetColumn:
    """One column of the target. `type` is spelled as Postgres's `format_type` does."""

    name: str
    type: str
    is_required: bool

    @property
    def sql(self) -> str:
        """The column in a CREATE TABLE or an ADD COLUMN."""
        return f"{quote(self.name)} {self.type}{' NOT NULL' if self.is_required else ''}"


@dataclass(frozen=True)
class Target:
    """A table of the lakehouse as one of a schema in Postgres: `gold.sessions` is `<schema>.gold_sessions`.

    Raises `CatalogueError` where it is made, for a column that Postgres cannot hold without loss.
    """

    table: TableSpec
    schema: str

    def __post_init__(self) -> None:
        _ = self.columns
        if len(self.name) + len(_LONGEST_SUFFIX) > _LONGEST_NAME:
            raise CatalogueError(f"{self.table.name}: its name is too long for a table in Postgres. Shorten it.")

    @property
    def name(self) -> str:
        """The table's name within the schema."""
        return self.table.name.replace(".", "_")

    @property
    def mark(self) -> str:
        """The comment on the table by which a sink knows its own: it touches no table without it."""
        return f"Headrace's copy of {self.table.name}: written by a sink, rows changed by hand are lost"

    @cached_property
    def columns(self) -> tuple[TargetColumn, ...]:
        """The columns, in the spec's order."""
        return tuple(_convert(self.table, column) for column in self.table.columns)

    @property
    def is_key_required(self) -> bool:
        """Whether no column of the key may be null, so that it is a primary key."""
        return all(column.is_required for column in self.columns if column.name in self.table.key)

    def qualify(self, suffix: str = "") -> str:
        """The table's full name in SQL; with `__loading` that of the table that a load fills."""
        return f"{quote(self.schema)}.{quote(self.name + suffix)}"

    def list_names(self, alias: str = "") -> str:
        """The columns' names with commas between, in SQL, of the table with this alias."""
        return ", ".join(f"{alias}{quote(column.name)}" for column in self.columns)

    def match_keys(self, left: str, right: str) -> str:
        """SQL: whether rows of two aliases have the same key. By an index: `IS NOT DISTINCT FROM` would use none."""
        required = {column.name: column.is_required for column in self.columns}
        parts = []
        for name in map(quote, self.table.key):
            same = f"{left}.{name} = {right}.{name}"
            is_required = required[name.strip('"')]
            parts.append(same if is_required else f"({same} OR ({left}.{name} IS NULL AND {right}.{name} IS NULL))")
        return " AND ".join(parts)

    def hash_row(self, alias: str) -> str:
        """SQL: a whole number that stands for a row's values. Sums of it do not depend on the order of rows."""
        return f"hash_record_extended(ROW({self.list_names(alias)}), 0)::numeric"

    @cached_property
    def day_column(self) -> Column | None:
        """The column by whose day the account is kept; None for a table without a date or a time."""
        named = {column.name: column for column in self.table.columns}
        order = [*self.table.partition_columns, *self.table.key, *named]
        return next((named[name] for name in order if named[name].type in ("date", "timestamp")), None)

    def name_day(self, alias: str) -> str:
        """SQL: the day (UTC) of a row in Postgres; null where the table has none."""
        column = self.day_column
        if column is None:
            return "NULL::date"
        name = f"{alias}{quote(column.name)}"
        return name if column.type == "date" else f"({name} AT TIME ZONE 'UTC')::date"


def quote(name: str) -> str:
    """A name in SQL, whatever signs it has."""
    return '"' + name.replace('"', '""') + '"'


def _convert(table: TableSpec, column: Column) -> TargetColumn:
    if len(column.name.encode()) > _LONGEST_NAME:
        raise CatalogueError(f"{table.name}: the name of the column {column.name} is too long for Postgres.")
    if re.search(r"map<(?!string,)", column.type):
        raise CatalogueError(
            f"{table.name}: the column {column.name} is a map whose keys are no texts, which no JSON of Postgres can "
            "hold. Leave the table out of HEADRACE_POSTGRES_TABLES."
        )
    kind = JSON if column.type.startswith(("array<", "map<", "struct<")) else _TYPES.get(column.type, "")
    if digits := re.fullmatch(r"decimal\((\d+),(\d+)\)", column.type):
        kind = f"numeric({digits[1]},{digits[2]})"
    if not kind:
        raise CatalogueError(f"{table.name}: Postgres has no type here for {column.type}, that of {column.name}.")
    return TargetColumn(column.name, kind, not column.nullable)
