"""Checks that a stream's table equals its twin: the same transformation over a batch of silver.events.

Both are read as they were when the group last wrote down how far it was (`platform.complete_until`): silver.events at
the version that the query had read, the table as the stream had left it then. Compared is what was final then, without
what touches a late event that still waited for its repair; rows that are in one but not in the other are breaches. Zero
tolerance. The newest events are compared, as many as one run can afford; a small lakehouse is compared whole.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.assets import BATCH_SPARK_POOL
from platform_assets.streaming.platform_tables import read_complete_until
from platform_assets.streaming.specs import StreamSpec, TableSource

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

# All five twins over so many take two CPU-minutes, once an hour.
MAX_EVENTS = 10_000_000

_SHOWN = 5
_MEND = "Compare the rows with the events; if the table is wrong, remove it and its checkpoint: it is computed again."


@dataclass(frozen=True)
class Comparison:
    """What was compared: rows that end in (`start`, `until`]; how many only one side has, and the first of them."""

    start: datetime | None
    until: datetime
    rows: int
    differences: int
    first: list[dict[str, Any]]


def build_parity_checks(streams: Iterable[StreamSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `parity` for each stream over a table; needs the resources `lakehouse` and `spark`."""
    return [_build_check(stream) for stream in streams if isinstance(stream.source, TableSource)]


def compare_with_twin(
    spark: "SparkSession", lakehouse: Any, stream: StreamSpec, state: dict[str, Any], max_events: int = MAX_EVENTS
) -> Comparison:
    """Compares a stream's table with its twin, as of `state`, the query's row of `platform.complete_until`.

    Spark counts equal rows on both sides, on disk where they are many; only the first that differ come to this process.
    """
    from pyspark.sql import functions as F

    from platform_assets.streaming.table_difference import (
        COPIES,
        LEFT_ROWS,
        count_copies,
        read_pending,
        select_final,
    )
    from platform_assets.streaming.twin import read_events, run_twin

    assert isinstance(stream.source, TableSource)
    source, watermark = lakehouse.table_uri(stream.source.table.name), state["watermark"]
    start = find_start(spark, source, state["source_version"], max_events)
    twin = run_twin(read_events(spark, source, state["source_version"], start), stream)
    version = _find_version(lakehouse.delta_table(stream.main_table.name), state["table_version"])
    uri = lakehouse.table_uri(stream.main_table.name)
    present = spark.read.format("delta").option("versionAsOf", version).load(uri).select(*twin.columns)
    late = read_pending(spark, lakehouse.table_uri("platform.late_events"), stream, state["updated_at"])
    final_twin, final_present = (select_final(rows, late, stream, watermark, start) for rows in (twin, present))
    counted = count_copies(final_twin, final_present)
    totals = counted.agg(F.sum(LEFT_ROWS), F.sum(F.abs(COPIES))).collect()[0]
    rows, differences = (total or 0 for total in totals)
    unequal = counted.where(F.col(COPIES) != 0).orderBy(*twin.columns).limit(_SHOWN)
    first = [_describe(row.asDict()) for row in unequal.collect()] if differences else []
    return Comparison(start, watermark, rows, differences, first)


def _describe(row: dict[str, Any]) -> dict[str, Any]:
    from platform_assets.streaming.table_difference import COPIES, LEFT_ROWS

    del row[LEFT_ROWS]
    return {"breach": "missing" if row.pop(COPIES) > 0 else "not in the twin", **row}


def find_start(spark: "SparkSession", uri: str, version: int, max_events: int) -> datetime | None:
    """From where the newest `max_events` events of a version lie, by event time; None: they are all of them."""
    from pyspark.sql import functions as F

    from platform_assets.streaming.twin import read_events

    events = read_events(spark, uri, version)
    # Days first: they are partitions, and counting them reads no column. Hours only where the limit falls.
    days = [(row["event_date"], row["count"]) for row in events.groupBy("event_date").count().collect()]
    day = _find_crossing(days, max_events)
    if day is None:
        return None
    hours = events.where(F.col("event_date") >= F.lit(day)).groupBy(F.date_trunc("hour", "event_time").alias("hour"))
    found = _find_crossing([(row["hour"], row["count"]) for row in hours.count().collect()], max_events)
    assert found is not None
    return found.astimezone(UTC) + timedelta(hours=1)


def _find_crossing(counts: list[tuple[Any, int]], limit: int) -> Any:
    """The newest period with which more than `limit` are counted, from the newest on; None: there are not so many."""
    total = 0
    for period, count in sorted(counts, reverse=True):
        total += count
        if total > limit:
            return period
    return None


def _find_version(table: "DeltaTable", version: int) -> int:
    """The version that the state knows if the stream has written since; what others wrote since is looked at."""
    from platform_assets.streaming.delta_tables import parse_commit_metadata

    since = table.history(max(1, table.version() - version)) if table.version() > version else []
    by_stream = any(parse_commit_metadata(commit.get("userMetadata")) is not None for commit in since)
    return version if by_stream else table.version()


def _build_check(stream: StreamSpec) -> dg.AssetChecksDefinition:
    name = stream.main_table.name

    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name="parity",
        description=f"{name} equals its transformation over a batch of silver.events, wherever it is final.",
        required_resource_keys={"lakehouse", "spark"},
        pool=BATCH_SPARK_POOL,
    )
    def parity(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        uri = lakehouse.table_uri("platform.complete_until")
        state = read_complete_until(uri, stream.name, lakehouse.storage_options())
        if state is None or state["complete_until"] is None:
            return dg.AssetCheckResult(passed=True, description="Nothing of the table is final yet.")
        found = compare_with_twin(context.resources.spark.spark_session, lakehouse, stream, state)
        since = "the beginning" if found.start is None else f"{found.start:%Y-%m-%d %H:%M}"
        compared = f"{found.rows:,} final rows from {since} until {found.until:%Y-%m-%d %H:%M:%S} UTC"
        first = f" The first: {found.first[0]}. {_MEND}" if found.first else ""
        return dg.AssetCheckResult(
            passed=not found.differences,
            description=f"{found.differences} differences in {compared}.{first}",
            metadata={
                "compared_rows": found.rows,
                "differences": found.differences,
                "late_events_pending": state["late_events_pending"],
                "headrace/source_version": state["source_version"],
                "headrace/table_version": state["table_version"],
                "first_differences": dg.MetadataValue.md("\n".join(f"- `{row}`" for row in found.first) or "none"),
            },
        )

    return parity
