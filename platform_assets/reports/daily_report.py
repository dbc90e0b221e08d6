"""What a daily report is, and how a range of its days is replaced.

A report is one Delta table with a date column as its only partition column. A run owns whole days: it computes the
rows of a contiguous range of days and replaces exactly these days in one Delta commit (`replaceWhere`), so that a
run can be repeated, two runs over different days never disturb each other, and a reader sees a day either as it was
or as it is, never half of it. Each commit's `userMetadata` names the version of every input that the run read, so
that a check can compare the report with its inputs as they were.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.days import DayRange
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    Inputs = Mapping[str, DataFrame]


@dataclass(frozen=True)
class ReportInput:
    """A table that a report reads. `neighbours`: how many days before and after a day the report's day depends on.

    Where the table is partitioned by a day, a change of its rows makes a report's day stale. Another one counts as
    changed with the day's state only (see `day_states`): its rows follow from those of a table that is partitioned.
    """

    table: TableSpec
    neighbours: int = 0


@dataclass(frozen=True)
class DailyReport:
    """One report: its table, what it reads, and two pure functions over its inputs by table name.

    `compute` returns rows of `table` for at least the days of the range (others are dropped); it gets all rows of the
    inputs and prunes them by the range. `draw` returns, for days of the range, a picture as Markdown and its name.
    """

    table: TableSpec
    inputs: tuple[ReportInput, ...]
    compute: Callable[[Inputs, DayRange], DataFrame]
    draw: Callable[[Inputs, DayRange], Mapping[date, tuple[str, str]]] | None = None

    @property
    def day_column(self) -> str:
        """The table's partition column."""
        (column,) = self.table.partition_columns
        return column

    @property
    def code_version(self) -> str:
        """Changes with the text of the module that defines the report: a day computed by another text is stale."""
        module = inspect.getmodule(self.compute)
        assert module is not None
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PinnedTable:
    """A Delta table at one version: all reads of a run see the same rows, whatever is appended meanwhile."""

    name: str
    uri: str
    version: int

    def read(self, spark: SparkSession) -> DataFrame:
        """The rows at this version, lazily."""
        return spark.read.format("delta").option("versionAsOf", self.version).load(self.uri)


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


def pin_table(lakehouse: Any, name: str) -> PinnedTable:
    """Fixes the input `name` at its newest version.

    Raises `dg.Failure` without retries, naming the table and the mend, when the table does not exist: nothing has
    created it yet, and trying again cannot help.
    """
    from deltalake.exceptions import TableNotFoundError

    try:
        version = lakehouse.delta_table(name).version()
    except TableNotFoundError:
        raise dg.Failure(
            description=f"The table {name} does not exist at {lakehouse.table_uri(name)}. Start the stream group that "
            "writes it, or run `make drain`.",
            allow_retries=False,
        ) from None
    return PinnedTable(name, lakehouse.table_uri(name), version)


def replace_days(
    rows: DataFrame, spec: TableSpec, lakehouse: Any, days: DayRange, inputs: Sequence[PinnedTable] = ()
) -> None:
    """Replaces the days of `spec`'s table with `rows`, in one commit; creates the table when it is missing.

    `rows` must hold the table's columns (any order) and only rows of `days`: Delta refuses others, and then nothing
    has been written. No rows: the days are empty afterwards. `inputs` go into the commit's `userMetadata`, with the
    range of days.
    """
    from platform_assets.streaming.delta_tables import create_table

    (date_column,) = spec.partition_columns
    uri = lakehouse.table_uri(spec.name)
    create_table(uri, spec, lakehouse.storage_options())
    lineage = ReportCommit(days, {i.name: i.version for i in inputs})
    (
        rows.select(*(c.name for c in spec.columns))
        # One file a day: a report's day is small, and a file for each shuffle partition would be read for ever.
        .repartition(date_column)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", days.predicate(date_column))
        .option("userMetadata", lineage.as_json())
        .save(uri)
    )
