"""Answers a question in SQL over all tables of the lakehouse, as they are now or as they were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jobs.operations.questions import parse_moment
from platform_assets.delta_reader import register_pinned
from platform_assets.errors import UsageError
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.result_span import as_moment, has_ended
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_all_streams
from platform_assets.tables.platform import COMPLETE_UNTIL

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

FileFormat = Literal["csv", "json", "parquet"]

_ANSWER = "headrace_answer"

_LAYERS = ("silver", "gold", "platform")
# A name in a text or a comment is found as well, which costs a look at that table and changes nothing.
_NAMES = re.compile(rf'\b"?({"|".join(_LAYERS)})"?\s*\.\s*"?(\w+)"?', re.IGNORECASE)


@dataclass(frozen=True)
class AsOf:
    """Which state of the tables is asked: versions by table, a time for all others; None: the newest.

    `is_complete`: only rows of the streams' tables that are final, by `platform.complete_until`.
    """

    time: datetime | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = False


def parse_as_of(texts: Sequence[str], *, is_complete: bool) -> AsOf:
    """Reads `TABLE=VERSION`, any number of them, and at most one time (ISO-8601, UTC where it names no zone).

    Raises `UsageError`.
    """
    versions: dict[str, int] = {}
    times: list[datetime | None] = []
    for text in texts:
        name, equals, version = text.partition("=")
        try:
            if equals:
                versions[name.strip().lower()] = int(version)
            else:
                times.append(parse_moment("--at", text))
        except (ValueError, UsageError):  # in words that name both ways
            raise UsageError(
                f"--at {text}: give a time such as 2026-05-04T12:00:00Z, or a version such as silver.events=42."
            ) from None
    if len(times) > 1 or any(version < 0 for version in versions.values()):
        raise UsageError("--at: give one time at most, and versions from 0 on.")
    return AsOf(times[0] if times else None, versions, is_complete)


@dataclass(frozen=True)
class Answer:
    """The rows that a question finds: computed when they are read, and as often."""

    rows: duckdb.DuckDBPyRelation
    _connection: duckdb.DuckDBPyConnection

    def write(self, place: Path, file_format: FileFormat) -> None:
        """Writes all rows into a file: with names in the first line (csv), or an object a line (json).

        Raises `UsageError` where the file cannot be written.
        """
        import duckdb

        options = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet"}[file_format]
        target = str(place).replace("'", "''")
        self.rows.create_view(_ANSWER)
        try:
            self._connection.execute(f"COPY (FROM {_ANSWER}) TO '{target}' ({options})")
        except duckdb.IOException as error:
            raise UsageError(f"{place} cannot be written: {error}") from None


@contextmanager
def open_answer(lakehouse: LakehouseResource, engine: DuckDBResource, sql: str, as_of: AsOf) -> Iterator[Answer]:
    """Asks one SELECT (DuckDB's dialect, also DESCRIBE and SUMMARIZE).

    Nothing can be changed by it. Memory is that of the engine; what does not fit goes to disk. Raises `UsageError` for
    SQL that cannot be run, a table or a version that is not there; so does the block, while the rows are read.
    """
    import duckdb

    with engine.connected() as connection, _explaining(lakehouse):
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError("Give one SELECT: this command changes nothing, and answers one question at a time.")
        names = {f"{layer}.{table}".lower() for layer, table in _NAMES.findall(sql)}
        if unused := as_of.versions.keys() - names:
            raise UsageError(f"--at names {', '.join(sorted(unused))}, which the SELECT does not read.")
        for name in sorted(names):
            _name_table(connection, lakehouse, name, as_of)
        yield Answer(connection.sql(statements[0].query), connection)


@contextmanager
def _explaining(lakehouse: LakehouseResource) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(f"{error} More memory: HEADRACE_REPORTS_MEMORY_MIB.") from None
    except duckdb.CatalogException as error:
        known = ", ".join(list_tables(lakehouse))
        raise UsageError(f"{error}\nTables: {known or 'none yet; streams make them when they start'}.") from None
    except duckdb.Error as error:
        raise UsageError(str(error)) from None


def list_tables(lakehouse: LakehouseResource) -> list[str]:
    """The names of all tables that are there, `layer.table`."""
    from pyarrow.fs import FileSelector, FileType

    folder = lakehouse.folder
    found = []
    for layer in _LAYERS:
        selector = FileSelector(layer, allow_not_found=True)
        found += [f"{layer}.{info.base_name}" for info in folder.files.get_file_info(selector)
                  if info.type == FileType.Directory]  # fmt: skip
    return sorted(name for name in found if lakehouse.find_table(name) is not None)


def _name_table(connection: duckdb.DuckDBPyConnection, lakehouse: LakehouseResource, name: str, as_of: AsOf) -> None:
    """Makes the table known by its name, in the state that is asked; nothing where there is none."""
    table = lakehouse.find_table(name)
    if table is None:
        return
    go_to_state(table, name, as_of)
    layer, own = name.split(".")
    register_pinned(connection, f"{layer}_{own}_rows", table)
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{layer}"')
    condition = find_final_rows(lakehouse, name) if as_of.is_complete else "true"
    connection.execute(f'CREATE VIEW "{layer}"."{own}" AS FROM "{layer}_{own}_rows" AS r WHERE {condition}')


def go_to_state(table: DeltaTable, name: str, as_of: AsOf) -> None:
    """Moves `table` to the state that is asked. Raises `UsageError` where there is none."""
    from deltalake.exceptions import DeltaError

    wanted = as_of.versions.get(name, as_of.time)
    if wanted is None:
        return
    try:
        table.load_as_version(wanted)
    except (DeltaError, OSError) as error:
        raise UsageError(f"{name} has no state {wanted} any more, or not yet: {error}") from None
    if isinstance(wanted, datetime) and table.version() == 0:
        # A time before the first version gets the first one.
        created = datetime.fromtimestamp((table.metadata().created_time or 0) / 1000, UTC)
        if created > wanted:
            raise UsageError(f"{name} was created at {created.isoformat()}: there was no table at {wanted}.")


def find_final_rows(lakehouse: LakehouseResource, name: str) -> str:
    """SQL: which rows of a table (as `r`) are final. All of a table that no stream over another table writes."""
    stream = next((each for each in select_derived(load_all_streams()) if each.main_table.name == name), None)
    if stream is None:
        return "true"
    uri, options = lakehouse.table_uri(COMPLETE_UNTIL.name), lakehouse.storage_options()
    state = read_complete_until(uri, stream.name, options)
    if state is None or state["complete_until"] is None:
        return "false"
    return has_ended(stream.span, "r", as_moment(state["complete_until"], "duckdb"))
