"""The SQL on a sink's table: made, compared with its spec, changed by rows, put in the place of the one before.

Each function is a part of the caller's transaction. None touches a table without the sink's mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.errors import SinkTargetError
from platform_assets.sinks.accounts import DayTotal, read_mark
from platform_assets.sinks.copy_text import CopySource
from platform_assets.sinks.target import Target, TargetColumn, quote

if TYPE_CHECKING:
    import pyarrow as pa

LOADING = "__loading"
"""The end of the name of the table that a load fills."""


@dataclass(frozen=True)
class Shape:
    """What a table of the database is like: the type of each column, and whether a unique index is over the key."""

    columns: dict[str, str]
    has_key: bool


def read_shape(cursor: Any, target: Target, suffix: str = "") -> Shape | None:
    """The table as it is; None where there is none. Raises `SinkTargetError` for one that no sink has made."""
    name = target.name + suffix
    mark = read_mark(cursor, target.schema, name)
    if mark is None:
        return None
    if mark != target.mark:
        raise SinkTargetError(
            f"The schema {target.schema} has a table {name} that the sink of {target.table.name} has not made, and "
            "does not touch. Rename or drop it, or set HEADRACE_POSTGRES_SCHEMA to another schema."
        )
    cursor.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = %s::regclass "
        "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum", (target.qualify(suffix),),
    )  # fmt: skip
    columns = dict(cursor.fetchall())
    cursor.execute(
        "SELECT array_agg(a.attname::text), bool_and(i.indnullsnotdistinct OR i.indisprimary) FROM pg_index i "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = %s::regclass "
        "AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid",
        (target.qualify(suffix),),
    )
    indexes = [(set(names), counts_nulls) for names, counts_nulls in cursor.fetchall()]
    return Shape(columns, any(names == set(target.table.key) and counts for names, counts in indexes))


def find_breaches(target: Target, shape: Shape) -> list[str]:
    """How the table differs from what its spec asks for, a sentence each. Columns that people have added do not."""
    breaches = [
        f"Column {column.name} is missing." if column.name not in shape.columns
        else f"Column {column.name} is {shape.columns[column.name]}; its spec asks for {column.type}."
        for column in target.columns if shape.columns.get(column.name) != column.type
    ]  # fmt: skip
    if not shape.has_key:
        breaches.append(f"It has no unique index over its key ({', '.join(target.table.key)}).")
    return breaches


def add_columns(cursor: Any, target: Target, columns: Iterable[TargetColumn]) -> None:
    """Gives the table columns that its spec has got; their rows have null in them."""
    for column in columns:
        cursor.execute(f"ALTER TABLE {target.qualify()} ADD COLUMN {quote(column.name)} {column.type}")


def create_loading(cursor: Any, target: Target) -> None:
    """Makes the empty table that a load fills, in the place of what is left of one before."""
    _drop(cursor, target, LOADING)
    _create(cursor, target, LOADING)


def is_loading(cursor: Any, target: Target) -> bool:
    """Whether the table that a load fills is there, with the columns that the spec has now."""
    shape = read_shape(cursor, target, LOADING)
    return shape is not None and shape.columns == {column.name: column.type for column in target.columns}


def _create(cursor: Any, target: Target, suffix: str) -> None:
    columns = ", ".join(column.sql for column in target.columns)
    cursor.execute(f"CREATE TABLE {target.qualify(suffix)} ({columns})")
    cursor.execute(f"COMMENT ON TABLE {target.qualify(suffix)} IS %s", (target.mark,))


def _drop(cursor: Any, target: Target, suffix: str = "") -> None:
    if read_shape(cursor, target, suffix) is not None:
        cursor.execute(f"DROP TABLE {target.qualify(suffix)}")


def copy_into_loading(cursor: Any, target: Target, batches: Iterable[pa.RecordBatch]) -> int:
    """Appends rows to the table that a load fills; returns how many."""
    return _copy(cursor, target.qualify(LOADING), target.columns, batches)


def put_in_place(cursor: Any, target: Target) -> list[DayTotal]:
    """Makes the loaded rows those of the table, and returns what it has then.

    A table of the right shape keeps its identity, with the rights, views and indexes that people have given it; its
    readers see the rows as they were until the transaction ends. Another one is replaced.
    """
    loaded, key = target.qualify(LOADING), ", ".join(map(quote, target.table.key))
    shape = read_shape(cursor, target)
    if shape is not None and not find_breaches(target, shape):
        names = target.list_names()
        cursor.execute(f"DELETE FROM {target.qualify()}")
        cursor.execute(f"INSERT INTO {target.qualify()} ({names}) SELECT {names} FROM {loaded}")
        cursor.execute(f"DROP TABLE {loaded}")
    else:
        _drop(cursor, target)
        index = quote(f"{target.name}_key")
        unique = f"PRIMARY KEY ({key})" if target.is_key_required else f"UNIQUE NULLS NOT DISTINCT ({key})"
        cursor.execute(f"ALTER TABLE {loaded} ADD CONSTRAINT {index} {unique}")
        cursor.execute(f"ALTER TABLE {loaded} RENAME TO {quote(target.name)}")
    cursor.execute(f"ANALYZE {target.qualify()}")
    return read_day_totals(cursor, target)


def read_day_totals(cursor: Any, target: Target) -> list[DayTotal]:
    """Goes through the whole table: rows and checksum of each of its days."""
    cursor.execute(
        f"SELECT {target.name_day('t.')}, count(*), sum({target.hash_row('t.')}) FROM {target.qualify()} AS t "
        "GROUP BY 1"
    )
    return _as_totals(cursor.fetchall())


def change_rows(
    cursor: Any, target: Target, gone: Iterable[pa.RecordBatch], come: Iterable[pa.RecordBatch]
) -> tuple[int, list[DayTotal]]:
    """Takes out rows by their keys, then adds rows. Returns how many came, and by how much each day's total changed."""
    keys = tuple(column for column in target.columns if column.name in target.table.key)
    totals: list[DayTotal] = []
    outgoing, incoming = f"pg_temp.{quote(target.name + '__gone')}", f"pg_temp.{quote(target.name + '__come')}"
    _create_temporary(cursor, outgoing, keys)
    if _copy(cursor, outgoing, keys, gone):
        cursor.execute(f"ANALYZE {outgoing}")  # without it the plan is one for a thousand rows
        cursor.execute(
            f"WITH gone AS (DELETE FROM {target.qualify()} AS t USING {outgoing} AS o "
            f"WHERE {target.match_keys('t', 'o')} RETURNING {target.name_day('t.')} AS day, "
            f"{target.hash_row('t.')} AS hash) SELECT day, -count(*), -sum(hash) FROM gone GROUP BY 1"
        )
        totals += _as_totals(cursor.fetchall())
    _create_temporary(cursor, incoming, target.columns)
    rows = _copy(cursor, incoming, target.columns, come)
    if rows:
        names = target.list_names()
        cursor.execute(
            f"WITH come AS (INSERT INTO {target.qualify()} AS t ({names}) SELECT {names} FROM {incoming} "
            f"RETURNING {target.name_day('t.')} AS day, {target.hash_row('t.')} AS hash) "
            "SELECT day, count(*), sum(hash) FROM come GROUP BY 1"
        )
        totals += _as_totals(cursor.fetchall())
    return rows, _add_up(totals)


def _create_temporary(cursor: Any, name: str, columns: Iterable[TargetColumn]) -> None:
    """Makes it once a connection: a new one with each transaction would leave 40 dead rows in Postgres's catalogue."""
    listed = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({listed}) ON COMMIT DELETE ROWS")


def _copy(cursor: Any, table: str, columns: tuple[TargetColumn, ...], batches: Iterable[pa.RecordBatch]) -> int:
    import psycopg2

    source = CopySource(batches, columns)
    names = ", ".join(quote(column.name) for column in columns)
    try:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN", source, 1024 * 1024)
    except psycopg2.Error:
        if source.error is not None:
            raise source.error from None
        raise
    return source.rows


def _as_totals(rows: Iterable[tuple[Any, int, Any]]) -> list[DayTotal]:
    return [DayTotal(day, count, int(checksum)) for day, count, checksum in rows]


def _add_up(totals: Iterable[DayTotal]) -> list[DayTotal]:
    """One total a day: a statement that adds to a row of the account cannot name it twice."""
    found: dict[Any, DayTotal] = {}
    for total in totals:
        before = found.get(total.day, DayTotal(total.day, 0, 0))
        found[total.day] = DayTotal(total.day, before.rows + total.rows, before.checksum + total.checksum)
    return list(found.values())
