"""Compares a sink's table with its account and with the Delta table: what somebody has changed, and what lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import register_pinned
from platform_assets.sinks import accounts, target_table
from platform_assets.sinks.accounts import DayTotal
from platform_assets.sinks.target import Target, quote
from resources import postgres

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

_MOST_DAYS_NAMED = 10


@dataclass(frozen=True)
class Comparison:
    """What was found. `breaches` are sentences, none where all is as it is meant.

    `version` is None before the first load has ended. `newest_version`: of the Delta table. `applied_at`: when the
    sink's last transaction was. `counted_days`: whether the Delta table at the version could be read.
    """

    version: int | None
    newest_version: int | None
    rows: int
    applied_at: datetime | None
    breaches: tuple[str, ...]
    counted_days: bool = False


def compare(target: Target, url: str, lakehouse: LakehouseResource, engine: DuckDBResource) -> Comparison:
    """Goes through the whole table in Postgres once, and counts the days of the Delta table at the sink's version.

    The sink may go on meanwhile: what is read of Postgres is of one moment. Raises what a connection raises.
    """
    table = lakehouse.find_table(target.table.name)
    newest = None if table is None else table.version()
    connection = postgres.connect(url)
    try:
        with postgres.transaction(connection, url, "REPEATABLE READ, READ ONLY") as cursor:
            known = accounts.list_accounts(cursor, target.schema).get(target.table.name)
            version = None if known is None else known["version"]
            if known is None or version is None:
                return Comparison(None, newest, 0, None, ())
            shape = target_table.read_shape(cursor, target)
            if shape is None:
                return Comparison(version, newest, 0, known["applied_at"], ("The table was dropped.",))
            breaches = target_table.find_breaches(target, shape)
            if any(column.name not in shape.columns for column in target.columns):
                return Comparison(version, newest, known["rows"], known["applied_at"], tuple(breaches))
            written = accounts.read_totals(cursor, target)
            found = {total.day: total for total in target_table.read_day_totals(cursor, target)}
    finally:
        connection.close()
    breaches += _name_days(written, found, "was changed by somebody else than its sink")
    counts = None if table is None else _count_days(target, table, version, engine)
    if counts is not None:
        breaches += _compare_counts(written, counts, version)
    return Comparison(version, newest, known["rows"], known["applied_at"], tuple(breaches), counts is not None)


def _name_days(written: Mapping[Any, DayTotal], found: Mapping[Any, DayTotal], what: str) -> list[str]:
    days = sorted((day for day in written.keys() | found.keys() if written.get(day) != found.get(day)), key=str)
    said = []
    for day in days[:_MOST_DAYS_NAMED]:
        had, has = (totals[day].rows if day in totals else 0 for totals in (written, found))
        rows = f"{has:,} rows instead of {had:,}" if had != has else f"other values in its {has:,} rows"
        said.append(f"{_name(day)} {what}: it has {rows}.")
    return [*said, *([f"So do {len(days) - _MOST_DAYS_NAMED} more days."] if len(days) > _MOST_DAYS_NAMED else [])]


def _compare_counts(written: Mapping[Any, DayTotal], counts: Mapping[Any, int], version: int) -> list[str]:
    ours = {day: total.rows for day, total in written.items()}
    days = sorted((day for day in ours.keys() | counts.keys() if ours.get(day, 0) != counts.get(day, 0)), key=str)
    return [
        f"{_name(day)}: the sink has written {ours.get(day, 0):,} rows; version {version} has {counts.get(day, 0):,}."
        for day in days[:_MOST_DAYS_NAMED]
    ]


def _count_days(
    target: Target, table: DeltaTable, version: int, engine: DuckDBResource
) -> dict[date | None, int] | None:
    """Rows of each day of the Delta table as it was; None where its log or its files no longer say so."""
    import duckdb
    from deltalake.exceptions import DeltaError

    column = target.day_column
    day = "NULL" if column is None else f"CAST({quote(column.name)} AS DATE)"
    try:
        table.load_as_version(version)
        with engine.connected() as connection:
            register_pinned(connection, "rows", table)
            found = connection.sql(f"SELECT {day}, count(*) FROM rows GROUP BY 1").fetchall()
    except (DeltaError, FileNotFoundError, duckdb.IOException):
        return None
    return dict(found)


def _name(day: date | None) -> str:
    return "What is of no day" if day is None else day.isoformat()
