"""What a daily report is, what of its inputs it reads, and what its commits say about themselves.

A report is one Delta table with a date column as its only partition column. A run owns whole days: it computes the
rows of a contiguous range of days and replaces exactly these days in one Delta commit, so that a run can be repeated,
two runs over different days never disturb each other, and a reader sees a day either as it was or as it is, never
half of it. Each commit's `userMetadata` names the version of every input that the run read, so that a check can
compare the report with its inputs as they were.

The rows are defined once, as SQL in DuckDB's dialect. Either engine runs it: `duckdb_engine` as it stands,
`spark_engine` after a translation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.errors import TableSchemaError
from platform_assets.reports.days import ONE_DAY, DayRange
from platform_assets.reports.report_sources import SHOP, ReportSource
from platform_assets.streaming.delta.unnamed_files import remove_unnamed_files
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable


# Above a commit that was just made lie those of runs that compute the same table at the same time: a few.
_COMMITS_SEARCHED = 100
# Today's day is replaced each hour: the files of a year would be thousands of times the rows. The consistency check
# reads the newest version only.
_VACUUM_HOURS = 24


@dataclass(frozen=True)
class PinnedTable:
    """A Delta table at one version: all reads of a run see the same rows, whatever is appended meanwhile.

    Columns of `spec` that the table does not have yet are read as null.
    """

    spec: TableSpec
    uri: str
    version: int

    @property
    def name(self) -> str:
        """The table's name."""
        return self.spec.name


@dataclass(frozen=True)
class InputRows:
    """Rows of a pinned table, under the name by which a report's SQL knows them.

    `bounds` are a date or timestamp column and the first and last value that are read of it; None: the whole table.
    `days`, where given, leaves only these values of the column. `is_empty`: none of the rows, only the columns.
    """

    name: str
    table: PinnedTable
    bounds: tuple[str, date, date] | None = None
    days: tuple[date, ...] = ()
    is_empty: bool = False

    @property
    def condition(self) -> str:
        """The same as SQL, in DuckDB's dialect."""
        if self.is_empty:
            return "false"
        if self.bounds is None:
            return "true"
        column, first, last = self.bounds
        if self.days:
            return f"{column} IN ({', '.join(_literal(day) for day in self.days)})"
        return f"{column} BETWEEN {_literal(first)} AND {_literal(last)}"


@dataclass(frozen=True)
class ReportInput:
    """A table that a report reads, by the last part of its name: `events` is silver.events.

    `day_column` is the date or timestamp by which a row belongs to a day; `before` adds the rows of so long before the
    first day. `neighbours`: how many days before and after a day the report's day depends on; `earlier`: how many more
    days before it. Without `is_read` none of its rows are: its log tells which days of other inputs have changed.

    Where the table is partitioned by a day, a change of its rows makes a report's day stale. Another one counts as
    changed with the day's state only (see `day_states`): its rows follow from those of a table that is partitioned.
    """

    table: TableSpec
    day_column: str
    before: timedelta = timedelta(0)
    neighbours: int = 0
    earlier: int = 0
    is_read: bool = True

    def days_read(self, day: date) -> set[date]:
        """The days of the table that the report's day depends on."""
        return {day + n * ONE_DAY for n in range(-self.neighbours - self.earlier, self.neighbours + 1)}

    def days_touched(self, day: date) -> set[date]:
        """The report's days that depend on this day of the table."""
        return {day + n * ONE_DAY for n in range(-self.neighbours, self.neighbours + self.earlier + 1)}

    def rows_of(self, pinned: PinnedTable, days: DayRange) -> InputRows:
        """What a report of these days reads of the table at this version."""
        types = {column.name: column.type for column in self.table.columns}
        bounds: tuple[str, date, date] = (self.day_column, days.first, days.last)
        if types[self.day_column] == "timestamp":
            bounds = (self.day_column, days.start - self.before, days.end - timedelta(microseconds=1))
        return InputRows(self.table.name.split(".")[1], pinned, bounds, is_empty=not self.is_read)


@dataclass(frozen=True)
class Picture:
    """A picture of each day. `sql` gives the columns `day`, `position` (from 0) and `n`; a position left out has 0.

    `draw` makes a Markdown image of a day's `positions` numbers and the day's name.
    """

    name: str
    sql: str
    positions: int
    draw: Callable[[Sequence[int], str], str]


@dataclass(frozen=True)
class DailyReport:
    """One report: its table, what it reads, and the SQL that makes rows of the table from these inputs.

    `sql` is a query in DuckDB's dialect with the table's columns, over relations that are named as the inputs, and
    `report_days`, which has the days of the run (`DayRange.relation`). It must give the rows of all these days; rows of
    other days are dropped. `source`: whose days these are. `build_sql`, where given, makes the query at each run, from
    what a person may edit; it raises a `HeadraceError` for what cannot be used.
    """

    table: TableSpec
    inputs: tuple[ReportInput, ...]
    sql: str
    picture: Picture | None = None
    source: ReportSource = SHOP
    build_sql: Callable[[], str] | None = None

    @property
    def day_column(self) -> str:
        """The table's partition column."""
        (column,) = self.table.partition_columns
        return column

    def resolve(self) -> DailyReport:
        """The report with the query as it is at this moment. Raises what `build_sql` says."""
        return self if self.build_sql is None else replace(self, sql=self.build_sql(), build_sql=None)

    @property
    def code_version(self) -> str:
        """Changes with the report's definition: a day computed by another one is stale."""
        read = [(source.table.name, source.day_column, str(source.before)) for source in self.inputs]
        columns = [(column.name, column.type) for column in self.table.columns]
        return hashlib.sha256(json.dumps([self.resolve().sql, read, columns]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ReportCommit:
    """What a report's commit says about itself: the days it replaced, and the version of each input that it read.

    `days` is None for a table that is not by day.
    """

    days: DayRange | None
    inputs: Mapping[str, int]

    def as_json(self) -> str:
        """The text for Delta's `userMetadata`."""
        days = {} if self.days is None else {"first_day": str(self.days.first), "last_day": str(self.days.last)}
        return json.dumps({"report": {**days, "inputs": dict(self.inputs)}})

    @classmethod
    def parse(cls, user_metadata: str | None) -> ReportCommit | None:
        """The reverse of `as_json`; None for a commit that no report made (the table's creation, upkeep)."""
        if not user_metadata or not user_metadata.startswith('{"report"'):
            return None
        body = json.loads(user_metadata)["report"]
        if "first_day" not in body:
            return cls(None, body["inputs"])
        days = DayRange(date.fromisoformat(body["first_day"]), date.fromisoformat(body["last_day"]))
        return cls(days, body["inputs"])

    def find_version(self, table: DeltaTable) -> int:
        """The version of the table that the newest commit of this kind has made, which need not be the table's newest.

        Raises `TableSchemaError` where none of the newest hundred is it.
        """
        for commit in table.history(_COMMITS_SEARCHED):
            if self.parse(commit.get("userMetadata")) == self:
                return int(commit["version"])
        raise TableSchemaError(f"{table.table_uri} has lost the commit of a report that was just made: run it again.")


def pin_table(lakehouse: Any, spec: TableSpec) -> PinnedTable:
    """Fixes an input at its newest version.

    Raises `dg.Failure` without retries, naming the table and what to do, when the table does not exist: nothing has
    created it yet, and trying again cannot help.
    """
    from deltalake.exceptions import TableNotFoundError

    name = spec.name
    try:
        version = lakehouse.delta_table(name).version()
    except TableNotFoundError:
        raise dg.Failure(
            description=f"The table {name} does not exist at {lakehouse.table_uri(name)}. Start the stream group that "
            "writes it, or run `make drain`.",
            allow_retries=False,
        ) from None
    return PinnedTable(spec, lakehouse.table_uri(name), version)


def remove_replaced_files(table: DeltaTable) -> None:
    """Removes the files that runs have replaced, but for those of the last `_VACUUM_HOURS`, which a reader may have.

    And those of a run that was killed a week ago, which no version names.
    """
    table.update_incremental()
    table.vacuum(_VACUUM_HOURS, dry_run=False, enforce_retention_duration=False)
    remove_unnamed_files(table, _VACUUM_HOURS)


def _literal(value: date) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
    return f"DATE '{value}'"
