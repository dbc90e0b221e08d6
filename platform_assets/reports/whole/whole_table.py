"""What a table that is computed whole, each night, is: data, of which a run makes the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import InputRows, PinnedTable
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sources import ReportSource
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class WholeInput:
    """A table that is read, under the last part of its name; of one with a `day_column` the last `days` up to now."""

    table: TableSpec
    day_column: str = ""
    days: int = 0

    def rows_of(self, pinned: PinnedTable, now: datetime) -> InputRows:
        """What is read of the table at this version."""
        name = self.table.name.split(".")[1]
        if not self.day_column:
            return InputRows(name, pinned)
        bounds: tuple[str, date, date] = (self.day_column, now.date() - timedelta(days=self.days - 1), now.date())
        return InputRows(name, pinned, bounds)


@dataclass(frozen=True)
class Computed:
    """The rows of the table, and what was measured on the way: numbers by name, kept with the commit."""

    rows: pa.Table
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WholeTable:
    """A table that a nightly run computes from all that its inputs hold by then.

    `compute` gets an engine that looks (DuckDB), the inputs' rows and the time, and returns rows of the table. `part`
    is an SQL condition: which of the table's rows it replaces (empty: all). `source`: whose records these follow from.
    """

    table: TableSpec
    inputs: tuple[WholeInput, ...]
    compute: Callable[[ReportEngine, Sequence[InputRows], datetime], Computed]
    source: ReportSource
    part: str = ""
