"""What every daily report shares: its partitions, how a range of days is read and replaced, what a run reports.

A report is one Delta table with a date column as its only partition column. A run owns whole days: it computes the
rows of a contiguous range of days and replaces exactly these days in one Delta commit (`replaceWhere`), so that a
run can be repeated, two runs over different days never disturb each other, and a reader sees a day either as it was
or as it is, never half of it. Each commit's `userMetadata` names the version of every input that the run read, so
that a check can compare the report with its inputs as they were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.streaming.specs import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession

# Two batch Spark applications beside the streaming one would not fit a small machine's memory: the instance limits
# runs that carry this tag to one at a time.
BATCH_SPARK_TAGS: Mapping[str, str] = {"headrace/spark": "batch"}

# One hour between two provisional runs, plus the time of a run behind another one in the queue: a report that misses
# one run is only warned about, one that misses two is failing.
FRESHNESS_POLICY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(minutes=90))

# Rows of a result that the asset's page shows: more would not fit a screen and would be stored with every event.
PREVIEW_ROWS = 10

# The pages of Dagster list every partition: a first day long before the shop's first event would bury the real ones.
FIRST_DAY = date(2024, 1, 1)


def build_daily_partitions(first_day: date = FIRST_DAY) -> dg.DailyPartitionsDefinition:
    """One partition a UTC day from `first_day` to today inclusive (today's is provisional until the day is over)."""
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", end_offset=1)


@dataclass(frozen=True)
class DayRange:
    """A contiguous, non-empty range of UTC days: `first` and `last` inclusive."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        """The first instant of the range (UTC)."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the range (UTC)."""
        day_after = self.last + timedelta(days=1)
        return datetime(day_after.year, day_after.month, day_after.day, tzinfo=UTC)

    def is_provisional(self, now: datetime) -> bool:
        """Whether the last day is not over at `now`."""
        return now < self.end

    def predicate(self, date_column: str) -> str:
        """The range as SQL, understood by Spark, Delta's `replaceWhere` and DuckDB."""
        return f"{date_column} >= DATE '{self.first}' AND {date_column} <= DATE '{self.last}'"

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def day_range_of(context: dg.AssetExecutionContext) -> DayRange:
    """The days of this run: one partition, or the whole range of a single-run backfill."""
    window = context.partition_time_window
    return DayRange(window.start.date(), (window.end - timedelta(days=1)).date())


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
    """What a report's commit says about itself: the days it replaced, and the version of each input that it read."""

    days: DayRange
    inputs: Mapping[str, int]

    def as_json(self) -> str:
        """The text for Delta's `userMetadata`."""
        body = {"first_day": str(self.days.first), "last_day": str(self.days.last), "inputs": dict(self.inputs)}
        return json.dumps({"report": body})

    @classmethod
    def parse(cls, user_metadata: str | None) -> ReportCommit | None:
        """The reverse of `as_json`; None for a commit that no report made (the table's creation, upkeep)."""
        if not user_metadata or not user_metadata.startswith('{"report"'):
            return None
        body = json.loads(user_metadata)["report"]
        days = DayRange(date.fromisoformat(body["first_day"]), date.fromisoformat(body["last_day"]))
        return cls(days, body["inputs"])


def pin_table(lakehouse: Any, name: str, mend: str) -> PinnedTable:
    """Fixes the input `name` at its newest version.

    Raises `dg.Failure` without retries, naming the table and `mend`, when the table does not exist: nothing has
    created it yet, and trying again cannot help.
    """
    from deltalake.exceptions import TableNotFoundError

    try:
        version = lakehouse.delta_table(name).version()
    except TableNotFoundError:
        raise dg.Failure(
            description=f"The table {name} does not exist at {lakehouse.table_uri(name)}. {mend}", allow_retries=False
        ) from None
    return PinnedTable(name, lakehouse.table_uri(name), version)


def replace_days(
    rows: DataFrame, spec: TableSpec, lakehouse: Any, days: DayRange, inputs: tuple[PinnedTable, ...] = ()
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


def describe_days(table: DeltaTable, spec: TableSpec, days: DayRange, now: datetime) -> dict[str, Any]:
    """The metadata of a materialization: counts, schema, version and a preview of the days just written.

    Read by delta-rs, not by the Spark that wrote the rows, so that a table which only Spark can read fails here.
    """
    import pyarrow.dataset as ds

    (date_column,) = spec.partition_columns
    own_days = (ds.field(date_column) >= days.first) & (ds.field(date_column) <= days.last)
    dataset = table.to_pyarrow_dataset()
    rows = dataset.count_rows(filter=own_days)
    preview = dataset.head(PREVIEW_ROWS, filter=own_days).to_pylist()
    return {
        "dagster/row_count": dg.MetadataValue.int(rows),
        "dagster/table_name": dg.MetadataValue.text(spec.name),
        "dagster/column_schema": build_column_schema(spec),
        "delta/version": dg.MetadataValue.int(table.version()),
        "headrace/days": dg.MetadataValue.text(str(days)),
        "headrace/state": dg.MetadataValue.text(
            "provisional: the day is not over" if days.is_provisional(now) else "the days are over"
        ),
        "preview": dg.MetadataValue.md(render_preview(spec, preview)),
    }


def build_column_schema(spec: TableSpec) -> dg.TableSchema:
    """The table's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name, c.type, description=c.description, constraints=dg.TableColumnConstraints(nullable=c.nullable)
            )
            for c in spec.columns
        ]
    )


def render_preview(spec: TableSpec, rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table in the spec's column order; a sentence when there are none."""
    if not rows:
        return "No rows."
    names = [c.name for c in spec.columns]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_render_value(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _render_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}"
    # User data in a Markdown table: a pipe would open a column, a line break would end the table, a tag would be HTML.
    return str(value).replace("|", "\\|").replace("\n", " ").replace("\r", " ").replace("<", "&lt;")
