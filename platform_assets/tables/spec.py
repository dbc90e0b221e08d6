"""What a public table is, as a frozen value: plain data, and no engine is imported for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a public table. `type` is a Spark SQL type name (`string`, `timestamp`, `double`, ...)."""

    name: str
    type: str
    description: str
    nullable: bool = True


@dataclass(frozen=True)
class EventRoles:
    """Which columns of a table of accepted records play a part in the platform; None where the topic has no such field.

    `event_id` is what a repeated record is known by, `user_id` whose record it is (what `forget-user` erases, and what
    `is_anonymous` speaks of), `event_type` what readers leave rows out by. All three are texts. The time of a row is in
    `event_time` and its day in `event_date` (the partition), whatever the topic. `user_fields`: what senders call the
    user in a record, by which raw ones are searched; a field inside of an object by its path, with points between.
    """

    event_id: str | None = None
    user_id: str | None = None
    event_type: str | None = None
    user_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSpec:
    """One public Delta table.

    `name` is `<layer>.<table>`; the table lies at `<root>/<layer>/<table>` and its Dagster asset key is
    `[<layer>, <table>]`. `key` is the grain: no two rows share it. `statistics_columns` are the columns that
    readers filter by; Delta collects file statistics for these only, and keeps them in its log: none that names a
    person, and not none at all in a table that does, for then it takes the first 32. `roles`: of accepted records.
    """

    name: str
    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_columns: tuple[str, ...] = ()
    statistics_columns: tuple[str, ...] = ()
    roles: EventRoles = EventRoles()

    @property
    def layer(self) -> str:
        """The part of the name before the dot (`silver`, `gold`, `platform`)."""
        return self.name.split(".")[0]

    @property
    def asset_path(self) -> tuple[str, str]:
        """The Dagster asset key's parts."""
        layer, table = self.name.split(".")
        return layer, table

    @property
    def ddl(self) -> str:
        """The schema as Spark DDL, in column order."""
        return ", ".join(f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns)
