"""What the sinks know of their tables, in Postgres itself: it is true in the transaction in which the rows are.

`<schema>.sinks` has a row a table: the Delta version that it is, and a load that is under way. `<schema>.sink_days` has
the rows and a checksum of each of its days: by it the check finds what somebody has changed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from platform_assets.errors import SinkTargetError, TransientError
from platform_assets.sinks.target import Target, quote

_SINKS_MARK = "Headrace's account of its sinks: which version of a Delta table each table here is"
_DAYS_MARK = "Headrace's account of its sinks: rows and checksum of each day (UTC) of each table"

_CREATE_SINKS = """
CREATE TABLE {schema}.sinks (
    name text PRIMARY KEY, table_id text, version bigint, digest text, columns jsonb,
    rows bigint NOT NULL DEFAULT 0, checksum numeric NOT NULL DEFAULT 0,
    committed_at timestamptz, applied_at timestamptz,
    load_table_id text, load_version bigint, load_digest text, load_portions bigint
)"""
_CREATE_DAYS = """
CREATE TABLE {schema}.sink_days (
    name text NOT NULL, day date, rows bigint NOT NULL, checksum numeric NOT NULL,
    UNIQUE NULLS NOT DISTINCT (name, day)
)"""


class MovedError(TransientError):
    """The account is not as this process has read it: somebody else has applied a version, or asked for a load."""


@dataclass(frozen=True)
class Load:
    """A load under way: of which version, and how many of its portions are done."""

    table_id: str
    version: int
    digest: str
    portions: int


@dataclass(frozen=True)
class Account:
    """How far a sink is. `version` is None before its first load has ended, and when a new one was asked for.

    `columns` has the type in Postgres of each column that the table was given.
    """

    table_id: str | None
    version: int | None
    digest: str | None
    columns: dict[str, str]
    rows: int
    load: Load | None


@dataclass(frozen=True)
class DayTotal:
    """Rows of a day (None: of none), and the sum of the numbers that stand for each of them, far beyond 64 bits."""

    day: date | None
    rows: int
    checksum: int


def ensure_accounts(cursor: Any, schema: str) -> None:
    """Makes the schema and both tables where they are missing. Raises `SinkTargetError` for tables of others."""
    tables = (("sinks", _CREATE_SINKS, _SINKS_MARK), ("sink_days", _CREATE_DAYS, _DAYS_MARK))
    if all(read_mark(cursor, schema, name) == mark for name, _, mark in tables):
        return
    # All sinks of a group begin at once, and each would make them.
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"headrace sinks {schema}",))
    cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if cursor.fetchone() is None:
        cursor.execute(f"CREATE SCHEMA {quote(schema)}")
    for name, create, mark in tables:
        found = read_mark(cursor, schema, name)
        if found is None:
            cursor.execute(create.format(schema=quote(schema)))
            cursor.execute(f"COMMENT ON TABLE {quote(schema)}.{name} IS %s", (mark,))
        elif found != mark:
            raise SinkTargetError(
                f"The schema {schema} has a table {name} that no sink has made. Rename it, or set "
                "HEADRACE_POSTGRES_SCHEMA to another schema."
            )


def read_mark(cursor: Any, schema: str, name: str) -> str | None:
    """The comment on a table, view or other relation of this name, empty without one; None where there is none."""
    cursor.execute(
        "SELECT coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s", (schema, name),
    )  # fmt: skip
    row = cursor.fetchone()
    return None if row is None else row[0]


def list_accounts(cursor: Any, schema: str) -> dict[str, dict[str, Any]]:
    """What is on record of each sink, by the table's name; none before there are accounts."""
    if read_mark(cursor, schema, "sinks") != _SINKS_MARK:
        return {}
    cursor.execute(f"SELECT name, version, rows, committed_at, applied_at, load_version FROM {quote(schema)}.sinks")
    names = [column.name for column in cursor.description]
    return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}


def read_account(cursor: Any, target: Target, *, lock: bool = False) -> Account:
    """What is on record of a table; a row is made for one that is new. `lock`: until the transaction's end."""
    sinks, name = f"{quote(target.schema)}.sinks", target.table.name
    cursor.execute(f"INSERT INTO {sinks} (name) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
    cursor.execute(
        "SELECT table_id, version, digest, columns, rows, load_table_id, load_version, load_digest, load_portions "
        f"FROM {sinks} WHERE name = %s{' FOR UPDATE' if lock else ''}", (name,),
    )  # fmt: skip
    table_id, version, digest, columns, rows, *load = cursor.fetchone()
    return Account(table_id, version, digest, columns or {}, rows, None if load[1] is None else Load(*load))


def lock_account(cursor: Any, target: Target, expected: Account) -> None:
    """Keeps all others from the table until the transaction's end. Raises `MovedError`."""
    if read_account(cursor, target, lock=True) != expected:
        raise MovedError(f"The account of {target.table.name} was changed by somebody else; it is read anew.")


def request_load(cursor: Any, target: Target) -> None:
    """Has the table loaded anew by the sink: at once, or when it runs next. Rows stay until the load has ended."""
    read_account(cursor, target, lock=True)
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET version = NULL, load_table_id = NULL, load_version = NULL, "
        "load_digest = NULL, load_portions = NULL WHERE name = %s", (target.table.name,),
    )  # fmt: skip


def begin_load(cursor: Any, target: Target, load: Load) -> None:
    """Records which version a load is of."""
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET version = NULL, load_table_id = %s, load_version = %s, "
        "load_digest = %s, load_portions = %s WHERE name = %s",
        (load.table_id, load.version, load.digest, load.portions, target.table.name),
    )


def note_portion(cursor: Any, target: Target) -> None:
    """Records that one more portion of the load is done."""
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET load_portions = load_portions + 1 WHERE name = %s",
        (target.table.name,),
    )


def note_version(
    cursor: Any, target: Target, table_id: str, version: int, digest: str, committed_at: datetime | None
) -> None:
    """Records which version the table is with this transaction; a load is over."""
    columns = json.dumps({column.name: column.type for column in target.columns})
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET table_id = %s, version = %s, digest = %s, columns = %s, "
        "committed_at = %s, applied_at = clock_timestamp(), load_table_id = NULL, load_version = NULL, "
        "load_digest = NULL, load_portions = NULL WHERE name = %s",
        (table_id, version, digest, columns, committed_at, target.table.name),
    )


def note_columns(cursor: Any, target: Target) -> None:
    """Records the columns that the table has now."""
    columns = json.dumps({column.name: column.type for column in target.columns})
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET columns = %s WHERE name = %s", (columns, target.table.name)
    )


def add_totals(cursor: Any, target: Target, totals: Iterable[DayTotal]) -> None:
    """Adds to the account of days, and to that of the table."""
    from psycopg2.extras import execute_values

    found, name = list(totals), target.table.name
    if not found:
        return
    days = f"{quote(target.schema)}.sink_days"
    execute_values(
        cursor,
        f"INSERT INTO {days} AS d (name, day, rows, checksum) VALUES %s ON CONFLICT (name, day) DO UPDATE SET "
        "rows = d.rows + excluded.rows, checksum = d.checksum + excluded.checksum",
        [(name, total.day, total.rows, total.checksum) for total in found],
        template="(%s, %s::date, %s::bigint, %s::numeric)",
    )
    cursor.execute(f"DELETE FROM {days} WHERE name = %s AND rows = 0 AND checksum = 0", (name,))
    cursor.execute(
        f"UPDATE {quote(target.schema)}.sinks SET rows = rows + %s, checksum = checksum + %s WHERE name = %s",
        (sum(total.rows for total in found), sum(total.checksum for total in found), name),
    )


def replace_totals(cursor: Any, target: Target, totals: Sequence[DayTotal]) -> None:
    """Records these as all that the table has."""
    name = target.table.name
    cursor.execute(f"DELETE FROM {quote(target.schema)}.sink_days WHERE name = %s", (name,))
    cursor.execute(f"UPDATE {quote(target.schema)}.sinks SET rows = 0, checksum = 0 WHERE name = %s", (name,))
    add_totals(cursor, target, totals)


def read_totals(cursor: Any, target: Target) -> dict[date | None, DayTotal]:
    """The days that are on record."""
    cursor.execute(
        f"SELECT day, rows, checksum FROM {quote(target.schema)}.sink_days WHERE name = %s", (target.table.name,)
    )
    return {day: DayTotal(day, rows, int(checksum)) for day, rows, checksum in cursor.fetchall()}
