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
from platform_assets.streaming.specs import StreamSpec, TableSource, in_words

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

# All five twins over so many take two CPU-minutes, once an hour.
MAX_EVENTS = 10_000_000

_SHOWN = 5
_MEND = "Compare the rows with the events; if the table is wrong, remove it and its checkpoint: it is computed again."


@dataclass(frozen=True)
class Comparison:
    """What was compared: rows that end in (`start`, `until`], and the rows that only one side has."""

    start: datetime | None
    until: datetime
    rows: int
    breaches: list[dict[str, Any]]


def build_parity_checks(streams: Iterable[StreamSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `parity` for each stream over a table; needs the resources `lakehouse` and `spark`."""
    return [_build_check(stream) for stream in streams if isinstance(stream.source, TableSource)]


def compare_with_twin(
    spark: "SparkSession", lakehouse: Any, stream: StreamSpec, state: dict[str, Any], max_events: int = MAX_EVENTS
) -> Comparison:
    """Compares a stream's table with its twin, as of `state`, the query's row of `platform.complete_until`."""
    import duckdb
    import pyarrow.compute as pc

    from platform_assets.streaming.twin import read_events, run_twin

    assert isinstance(stream.source, TableSource) and stream.span is not None
    span, watermark = stream.span, state["watermark"]
    uri = lakehouse.table_uri(stream.source.table.name)
    start = find_start(spark, uri, state["source_version"], max_events)
    twin = run_twin(read_events(spark, uri, state["source_version"], start), stream).toArrow()
    table = lakehouse.delta_table(stream.main_table.name)
    _go_back(table, state["table_version"])
    late = lakehouse.delta_table("platform.late_events").to_pyarrow_dataset()
    is_open = pc.field("repaired_at").is_null() | (pc.field("repaired_at") > state["updated_at"])
    # By name afterwards: Arrow has no filters for the text columns of files that delta-rs has rewritten.
    pending = late.to_table(["query", "event_time", "user_id"], filter=is_open).filter(pc.field("query") == stream.name)

    same_user = "and l.user_id = r.user_id" if span.by_user else ""
    pause = f"interval '{in_words(span.inactivity)}'"
    touches = f"l.event_time between r.{span.start_column} - {pause} and r.{span.end_column} + {pause} {same_user}"
    bounds = [f"r.{span.end_column} + {pause} <= timestamptz '{watermark.isoformat()}'"]
    if start is not None:
        # Rows that begin nearer to the first event read may lack events.
        first_whole = start + span.reach + span.inactivity
        bounds.append(f"r.{span.start_column} > timestamptz '{first_whole.isoformat()}'")
    columns = ", ".join(column.name for column in stream.main_table.columns)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for name, rows in (("twin", twin), ("present", table.to_pyarrow_dataset()), ("late", pending)):
            connection.register(name, rows)
        for name in ("twin", "present"):
            connection.execute(
                f"create temp table final_{name} as select {columns} from {name} r "
                f"where {' and '.join(bounds)} and not exists (from late l where {touches})"
            )
        breaches = connection.sql(
            "select 'missing' as breach, * from (from final_twin except all from final_present) "
            "union all select 'not in the twin', * from (from final_present except all from final_twin)"
        ).to_arrow_table()
        (count,) = connection.sql("select count(*) from final_twin").fetchall()[0]
    return Comparison(start, watermark, count, breaches.to_pylist())


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


def _go_back(table: "DeltaTable", version: int) -> None:
    """To the version that the state knows if the stream has written since; what others wrote since is looked at."""
    from platform_assets.streaming.delta_tables import parse_commit_metadata

    since = table.history(max(1, table.version() - version)) if table.version() > version else []
    if any(parse_commit_metadata(commit.get("userMetadata")) is not None for commit in since):
        table.load_as_version(version)


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
        state = _read_state(lakehouse, stream.name)
        if state is None or state["complete_until"] is None:
            return dg.AssetCheckResult(passed=True, description="Nothing of the table is final yet.")
        found = compare_with_twin(context.resources.spark.spark_session, lakehouse, stream, state)
        since = "the beginning" if found.start is None else f"{found.start:%Y-%m-%d %H:%M}"
        compared = f"{found.rows:,} final rows from {since} until {found.until:%Y-%m-%d %H:%M:%S} UTC"
        first = f" The first: {found.breaches[0]}. {_MEND}" if found.breaches else ""
        return dg.AssetCheckResult(
            passed=not found.breaches,
            description=f"{len(found.breaches)} differences in {compared}.{first}",
            metadata={
                "compared_rows": found.rows,
                "differences": len(found.breaches),
                "late_events_pending": state["late_events_pending"],
                "headrace/source_version": state["source_version"],
                "headrace/table_version": state["table_version"],
                "first_differences": dg.MetadataValue.md(
                    "\n".join(f"- `{row}`" for row in found.breaches[:_SHOWN]) or "none"
                ),
            },
        )

    return parity


def _read_state(lakehouse: Any, query: str) -> dict[str, Any] | None:
    from deltalake.exceptions import TableNotFoundError

    try:
        table = lakehouse.delta_table("platform.complete_until")
    except TableNotFoundError:
        return None
    rows = (row for row in table.to_pyarrow_table().to_pylist() if row["query"] == query)
    return next(rows, None)
