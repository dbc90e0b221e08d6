"""A Delta table with a column of each type, a sink of it in a real Postgres, and both as plain rows to compare."""

from __future__ import annotations

import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg2
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from platform_assets.sinks.comparison import Comparison, compare
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.sink_group import SinkGroup
from platform_assets.sinks.target import Target
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.progress import SinkProgress
from platform_assets.streaming.stream_spec import name_sink
from platform_assets.tables.spec import Column, TableSpec
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.integration.postgres_server import USER

SCHEMA = "headrace"
_LIMIT_SECONDS = 60.0
SPEC = TableSpec(
    name="gold.sunk_rows",
    description="Rows of a test.",
    grain="number and part",
    key=("number", "part"),
    columns=(
        Column("number", "bigint", "First part of the key.", nullable=False),
        Column("part", "string", "Second part of the key, of which null is a value."),
        Column("event_date", "date", "Day.", nullable=False),
        Column("small", "int", "A whole number."),
        Column("text", "string", "A text."),
        Column("amount", "double", "A double."),
        Column("money", "decimal(28,2)", "Money."),
        Column("is_new", "boolean", "A truth value."),
        Column("at", "timestamp", "A time."),
        Column("raw", "binary", "Bytes."),
        Column("tags", "array<string>", "Texts."),
        Column("sums", "map<string,double>", "Doubles by text."),
    ),
    partition_columns=("event_date",),
)

Row = dict[str, Any]


def build_row(number: int, part: str | None = None, **values: Any) -> Row:
    """A row with these values; null in the other columns."""
    row: Row = dict.fromkeys((column.name for column in SPEC.columns), None)
    return row | {"number": number, "part": part, "event_date": date(2026, 1, 1 + number % 3)} | values


@dataclass(frozen=True)
class SunkTable:
    """The table, and how to change it by delta-rs as the streams, their upkeep and an erasure do."""

    lakehouse: LakehouseResource
    url: str
    engine: DuckDBResource
    spec: TableSpec = SPEC

    @property
    def target(self) -> Target:
        return Target(self.spec, SCHEMA)

    def open_sink(self, **arguments: Any) -> Sink:
        return Sink(self.target, self.url, self.lakehouse, self.engine, **arguments)

    def open_table(self) -> DeltaTable:
        return create_table(self.lakehouse.table_uri(self.spec.name), self.spec, self.lakehouse.storage_options())

    def as_arrow(self, rows: Sequence[Row]) -> pa.Table:
        schema = build_arrow_schema(self.spec)
        return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)

    def append(self, rows: Sequence[Row]) -> None:
        write_deltalake(self.open_table(), self.as_arrow(rows), mode="append")

    def upsert(self, rows: Sequence[Row]) -> None:
        """Rows replace those of their keys, in their day."""
        same = "t.number = s.number and (t.part = s.part or (t.part is null and s.part is null))"
        merge = self.open_table().merge(self.as_arrow(rows), f"{same} and t.event_date = s.event_date", "s", "t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def delete(self, numbers: Sequence[int]) -> None:
        self.open_table().delete(f"number in ({', '.join(map(str, numbers))})")

    def compact(self) -> None:
        self.open_table().optimize.compact()

    def vacuum(self) -> None:
        self.open_table().vacuum(0, dry_run=False, enforce_retention_duration=False)

    def cut_log(self) -> None:
        """Removes all commits that a checkpoint stands for."""
        table = self.open_table()
        table.create_checkpoint()
        for path in (self.log_folder).glob("*.json"):
            if int(path.stem) < table.version():
                path.unlink()

    @property
    def log_folder(self) -> Any:
        assert self.lakehouse.local_root is not None
        layer, name = self.spec.name.split(".")
        return self.lakehouse.local_root / layer / name / "_delta_log"

    def read_delta(self) -> list[Row]:
        """The rows by polars, which nothing of the sink uses."""
        if self.lakehouse.local_root is not None:
            found = pl.read_delta(self.lakehouse.table_uri(self.spec.name)).rows(named=True)
        else:  # polars has other names for a store's options
            found = self.lakehouse.delta_table(self.spec.name).to_pyarrow_table().to_pylist()
        return _sort([{name: _plain(name, value) for name, value in row.items()} for row in found])

    def read_postgres(self) -> list[Row]:
        names = [column.name for column in self.target.columns]
        found = self.ask(f"SELECT {self.target.list_names()} FROM {self.target.qualify()}")
        return _sort([{n: _plain(n, v) for n, v in zip(names, row, strict=True)} for row in found])

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """What Postgres answers, as a person asks it."""
        with closing(psycopg2.connect(self.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"SET timezone = 'UTC'; {sql}")
            return cursor.fetchall() if cursor.description else []

    def compare(self) -> Comparison:
        return compare(self.target, self.url, self.lakehouse, self.engine)

    def follow(self, sink: Sink | None = None) -> None:
        """Has a sink, a new one where none is given, apply all that there is."""
        used = sink or self.open_sink()
        while used.advance():
            pass
        if sink is None:
            used.close()

    def demand_equal(self) -> None:
        there, wanted = self.read_postgres(), self.read_delta()
        assert there == wanted, "\n".join(f"{a}\n{b}" for a, b in itertools.zip_longest(there, wanted) if a != b)[:5000]
        found = self.compare()
        assert found.breaches == () and found.counted_days
        assert (found.version, found.rows) == (self.open_table().version(), len(self.read_delta()))

    def with_columns(self, *columns: Column) -> SunkTable:
        return replace(self, spec=replace(self.spec, columns=columns))


@contextmanager
def fresh_database(port: int) -> Iterator[str]:
    """A database of a test's own; the address by which its owner reaches it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with closing(psycopg2.connect(f"postgresql://{USER}@127.0.0.1:{port}/{USER}")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield f"postgresql://{USER}@127.0.0.1:{port}/{name}"
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _plain(name: str, value: Any) -> Any:
    """One spelling for what the two readers spell in two ways."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.replace("\x00", "\u2400")
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, list):
        return [_plain("", item) for item in value]
    if isinstance(value, Mapping):
        return {_plain("", key): _as_json_number(number) for key, number in value.items()}
    return value


def _as_json_number(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    # A whole number of Postgres's JSON is one of Python's, however long.
    return float(value) if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]


def _sort(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["number"], row["part"] is not None, row["part"] or ""))


FULL_ROW = build_row(
    1, "a", small=-(2**31), text='quoted "x", tab\t, line\n\\.\n, \\N and \r\x00 end', amount=float("inf"),
    money=Decimal("-99999999999999999999999999.99"), is_new=False, at=datetime(2026, 1, 1, 1, 2, 3, 4, UTC),
    raw=bytes(range(256)), tags=["a\\", '"', None, "\x00"], sums={"a": 1e300, "b": float("nan")},
)  # fmt: skip


def read_state(group: SinkGroup) -> SinkProgress:
    """How far the sink of the table is."""
    found = group.progress()[name_sink(SPEC)].sink
    assert found is not None
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Waits until it holds."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {_LIMIT_SECONDS} s: {what}"
        time.sleep(0.05)


def read_account(table: SunkTable) -> dict[str, Any]:
    names = ("version", "rows", "load_version", "load_portions")
    [row] = table.ask(f"SELECT {', '.join(names)} FROM {SCHEMA}.sinks WHERE name = '{SPEC.name}'")
    return dict(zip(names, row, strict=True))


def wait_for_later(table: SunkTable, version: int) -> None:
    wait_for(lambda: find_version(table) > version, f"it has applied more than version {version}")


def find_version(table: SunkTable) -> int:
    """The version that is applied; -1 before there is one."""
    if not table.ask(f"SELECT 1 FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename = 'sinks'"):
        return -1
    return max(
        [version for (version,) in table.ask(f"SELECT version FROM {SCHEMA}.sinks") if version is not None], default=-1
    )


def nobody_at(url: str) -> str:
    """The same address with a port at which nobody listens."""
    before, _, database = url.rpartition("/")
    return f"{before.rpartition(':')[0]}:9/{database}"
