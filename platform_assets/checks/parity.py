"""Checks that a stream's table equals what its source comes to: by the stream's rule, or by its twin.

The rule is SQL that DuckDB runs: a second way to the same rows, with no start of Spark. The twin is the stream's own
transformation, over a batch, in Spark: for a stream without a rule, and for lakes that have outgrown one machine (the
setting `reports_engine`).

Both sides are read as they were when the group last wrote down how far it was (`platform.complete_until`):
the source at the version that the query had read, the table as the stream had left it then. Compared is what was
final then, without what touches a late event that still waited for its repair; rows that are in one but not in the
other are breaches. Zero tolerance. The newest events are compared, as many as one run can afford, and one older day in
its turn (by the rule); a small lakehouse is compared whole.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.newest_events import MAX_EVENTS, find_start, register_newest
from platform_assets.private_rows import hide_users, render_rows
from platform_assets.reports.assets import BATCH_SPARK_POOL, REPORTS_POOL
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.repair.expiry import find_expired, find_kept_from
from platform_assets.streaming.stream_spec import Stream, TableStream, select_derived

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

    from platform_assets.checks.latest_parity import LatestDifference


_SHOWN = 5
# A first batch over much history takes minutes, and another one before its watermark counts.
_BEGINNING = timedelta(minutes=15)
_WHAT_TO_DO = (
    "Compare the rows (headrace check --rows shows whose they are) with the events; if the table is wrong, remove it "
    "and its checkpoint: it is computed again."
)


@dataclass(frozen=True)
class Comparison:
    """What was compared: rows that end in (`start`, `until`]; how many only one side has, and the first of them."""

    start: datetime | None
    until: datetime
    rows: int
    differences: int
    first: list[dict[str, Any]]
    older_day: date | None = None


def build_parity_checks(streams: Iterable[Stream], engine: EngineName) -> list[dg.AssetChecksDefinition]:
    """One check `parity` for each stream over a table; needs the resources `lakehouse`, and `duckdb` or `spark`."""
    return [
        _build_latest_check(stream) if stream.is_latest else _build_check(stream, engine)
        for stream in select_derived(streams)
    ]


def compare(
    resources: Any, stream: TableStream, state: dict[str, Any], engine: EngineName, max_events: int = MAX_EVENTS
) -> Comparison:
    """Compares a stream's table as of `state`, the query's row of `platform.complete_until`.

    Only the first rows that differ come to this process; the others are counted where they are, on disk where they are
    many. Raises `StorageError` when DuckDB's memory or disk is too small.
    """
    lakehouse = resources.lakehouse
    table = lakehouse.delta_table(stream.main_table.name)
    version = _find_version(table, state["table_version"])
    if engine == "spark":
        return _compare_with_twin(resources.spark.spark_session, lakehouse, stream, state, version, max_events)
    from platform_assets.checks.parity_by_rule import compare_with_rule
    from platform_assets.reports.duckdb_engine import clear_errors

    events, late = (lakehouse.delta_table(name) for name in (stream.source.table.name, "platform.late_events"))
    events.load_as_version(_find_source_version(lakehouse, events, stream, state["source_version"]))
    table.load_as_version(version)
    with resources.duckdb.connected() as connection, clear_errors():
        start = _leave_out_expired(lakehouse, stream, register_newest(connection, events, stream.source, max_events))
        rows, differences, first = compare_with_rule(connection, stream, table, late, state, start, _SHOWN)
    return Comparison(start, state["watermark"], rows, differences, [_describe(row) for row in first])


def compare_older_day(
    resources: Any, stream: TableStream, state: dict[str, Any], newest: Comparison, now: datetime,
    max_events: int = MAX_EVENTS,
) -> Comparison | None:  # fmt: skip
    """Compares a day before those of `newest` with the rule, by the turn of the hour; None where there is none."""
    from platform_assets.checks.parity_by_rule import compare_with_rule
    from platform_assets.checks.parity_in_turn import choose_day, register_day
    from platform_assets.reports.duckdb_engine import clear_errors

    if newest.start is None:
        return None
    lakehouse = resources.lakehouse
    table, events, late = (
        lakehouse.delta_table(name)
        for name in (stream.main_table.name, stream.source.table.name, "platform.late_events")
    )
    table.load_as_version(_find_version(table, state["table_version"]))
    events.load_as_version(_find_source_version(lakehouse, events, stream, state["source_version"]))
    kept_from = find_kept_from(stream, find_expired(lakehouse))
    found = choose_day(stream, events, min(newest.start, newest.until), kept_from, now, max_events)
    if found is None:
        return None
    with resources.duckdb.connected() as connection, clear_errors():
        register_day(connection, events, stream, found)
        of_day = state | {"watermark": found.until}
        rows, differences, first = compare_with_rule(
            connection, stream, table, late, of_day, found.since, _SHOWN, is_newest=False
        )
    return Comparison(found.since, found.until, rows, differences, [_describe(row) for row in first], found.day)


def _compare_with_twin(
    spark: "SparkSession", lakehouse: Any, stream: TableStream, state: dict[str, Any], version: int, max_events: int
) -> Comparison:
    from pyspark.sql import functions as F

    from platform_assets.streaming.repair.table_difference import (
        COPIES,
        LEFT_ROWS,
        count_copies,
        read_pending,
        select_columns,
        select_final,
    )
    from platform_assets.streaming.repair.twin import read_events, run_twin

    source, watermark = lakehouse.table_uri(stream.source.table.name), state["watermark"]
    table = lakehouse.delta_table(stream.source.table.name)
    source_version = _find_source_version(lakehouse, table, stream, state["source_version"])
    events = read_events(spark, source, source_version)

    def count_by(period: str, condition: str) -> list[tuple[Any, int]]:
        counted = events.where(condition).groupBy(F.expr(period).alias("period")).count().collect()
        return [(row["period"], row["count"]) for row in counted]

    start = _leave_out_expired(lakehouse, stream, find_start(count_by, max_events))
    twin = run_twin(read_events(spark, source, source_version, start), stream)
    uri = lakehouse.table_uri(stream.main_table.name)
    present = spark.read.format("delta").option("versionAsOf", version).load(uri)
    present = select_columns(present, stream.main_table.columns)
    late = read_pending(spark, lakehouse.table_uri("platform.late_events"), stream, state["updated_at"])
    final_twin, final_present = (select_final(rows, late, stream, watermark, start) for rows in (twin, present))
    counted = count_copies(final_twin, final_present)
    totals = counted.agg(F.sum(LEFT_ROWS), F.sum(F.abs(COPIES))).collect()[0]
    rows, differences = (total or 0 for total in totals)
    unequal = counted.where(F.col(COPIES) != 0).drop(LEFT_ROWS).orderBy(*twin.columns).limit(_SHOWN)
    first = [_describe(row.asDict()) for row in unequal.collect()] if differences else []
    return Comparison(start, watermark, rows, differences, first)


def _leave_out_expired(lakehouse: Any, stream: TableStream, start: datetime | None) -> datetime | None:
    """The start, or from where on neither the table nor its source has lost rows to a policy, if that is later."""
    kept_from = find_kept_from(stream, find_expired(lakehouse))
    return max((time for time in (start, kept_from) if time is not None), default=None)


def _describe(row: dict[str, Any]) -> dict[str, Any]:
    from platform_assets.streaming.repair.table_difference import COPIES

    return {"breach": "missing" if row.pop(COPIES) > 0 else "not expected", **row}


def _find_version(table: "DeltaTable", version: int) -> int:
    """The version that the state knows if the stream has written since; what others wrote since is looked at."""
    from platform_assets.streaming.delta.commit_info import CommitInfo

    since = table.history(max(1, table.version() - version)) if table.version() > version else []
    by_stream = any(CommitInfo.parse(commit.get("userMetadata")) is not None for commit in since)
    return version if by_stream else table.version()


def _find_source_version(lakehouse: Any, events: "DeltaTable", stream: TableStream, version: int) -> int:
    """The version that the query has read, or a later one up to which nothing was appended and we rewrote nothing.

    What somebody else has changed or deleted in the source since is thereby looked at: no query reads it, and without
    new events the query's own version would stay what it is for ever.
    """
    from platform_assets.streaming.delta.commit_info import CommitInfo
    from platform_assets.streaming.delta.commit_log import CommitLog

    source = stream.source
    log = CommitLog(lakehouse.table_uri(source.table.name), source.time_column, lakehouse.storage_options())
    since = events.history(events.version() - version) if events.version() > version else []
    for entry in reversed(since):
        commit = log.read(entry["version"])
        is_ours = CommitInfo.parse(entry.get("userMetadata")) is not None
        if commit is None or commit.files or is_ours:
            break
        version = commit.version
    return version


def _build_check(stream: TableStream, engine: EngineName) -> dg.AssetChecksDefinition:
    name = stream.main_table.name
    engine = engine if stream.rule is not None else "spark"

    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name="parity",
        description=f"{name} equals what {stream.source.table.name} comes to, wherever it is final "
        f"({'its twin, by Spark' if engine == 'spark' else 'its rule, by DuckDB'}).",
        required_resource_keys={"lakehouse", engine},
        pool=BATCH_SPARK_POOL if engine == "spark" else REPORTS_POOL,
    )
    def parity(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        uri = lakehouse.table_uri("platform.complete_until")
        state = read_complete_until(uri, stream.name, lakehouse.storage_options())
        if state is None or state["complete_until"] is None:
            return _judge_nothing(lakehouse, stream, datetime.now(UTC))
        found, older = compare(context.resources, stream, state, engine), None
        if engine != "spark":
            older = compare_older_day(context.resources, stream, state, found, datetime.now(UTC))
        return _judge(stream, found, state, older)

    return parity


def _build_latest_check(stream: TableStream) -> dg.AssetChecksDefinition:
    table, source = stream.main_table, stream.source.table

    @dg.asset_check(
        asset=list(table.asset_path),
        name="parity",
        description=f"{table.name} has the latest row of each key of {source.name} (its rule, by DuckDB).",
        required_resource_keys={"lakehouse", "duckdb"},
        pool=REPORTS_POOL,
    )
    def parity(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from platform_assets.checks import latest_parity
        from platform_assets.reports.duckdb_engine import clear_errors
        from platform_assets.streaming.delta.commit_log import CommitLog

        lakehouse = context.resources.lakehouse
        present, changes = lakehouse.find_table(table.name), lakehouse.find_table(source.name)
        log = CommitLog(lakehouse.table_uri(source.name), stream.source.time_column, lakehouse.storage_options())
        version = None if present is None else latest_parity.find_source_version(present, stream, log)
        if version is None or changes is None:
            return dg.AssetCheckResult(passed=True, description=latest_parity.describe_nothing(stream))
        changes.load_as_version(version)
        kept_from = find_kept_from(stream, find_expired(lakehouse))
        with context.resources.duckdb.connected() as connection, clear_errors():
            found = latest_parity.compare_latest(connection, stream, present, changes, kept_from, _SHOWN)
        return _judge_latest(stream, found, {"source": version, "table": present.version()})

    return parity


def _judge_latest(stream: TableStream, found: "LatestDifference", versions: dict[str, int]) -> dg.AssetCheckResult:
    name, column = stream.main_table.name, stream.span.user_column if stream.span.by_user else None
    rows = hide_users([_describe(row) for row in found.first], f"parity of {name}", column)
    said = f"{found.differences} differences in {found.rows:,} keys, with version {versions['source']} of its changes."
    if rows:
        said += f" The first: {rows[0]}. Have it computed again: headrace recompute {stream.name}"
    return dg.AssetCheckResult(
        passed=not found.differences,
        description=said,
        metadata={
            "compared_rows": found.rows,
            "differences": found.differences,
            **{f"headrace/{what}_version": version for what, version in versions.items()},
            "first_differences": dg.MetadataValue.md(render_rows(rows)),
        },
    )


def _judge_nothing(lakehouse: Any, stream: TableStream, now: datetime) -> dg.AssetCheckResult:
    """Nothing is final: as at a beginning, or because nothing can become final."""
    import pyarrow as pa

    source = lakehouse.find_table(stream.source.table.name)
    files = {} if source is None else pa.table(source.get_add_actions(flatten=True)).to_pydict()
    arrived = files.get("min.ingested_at", [])
    first = min((moment for moment in arrived if moment is not None), default=None)
    patience = stream.source.watermark_delay + stream.span.longest_open + _BEGINNING
    if first is None or now - first.astimezone(UTC) <= patience:
        return dg.AssetCheckResult(passed=True, description="Nothing of the table is final yet.")
    return dg.AssetCheckResult(
        passed=False,
        description=f"Nothing of the table is final, though events have come since {first:%Y-%m-%d %H:%M} UTC. Look at "
        f"the check event_time of {stream.source.table.name}, and at whether the stream runs.",
    )


def _judge(
    stream: TableStream, found: Comparison, state: dict[str, Any], older: Comparison | None = None
) -> dg.AssetCheckResult:
    since = "the beginning" if found.start is None else f"{found.start:%Y-%m-%d %H:%M}"
    compared = f"{found.rows:,} final rows from {since} until {found.until:%Y-%m-%d %H:%M:%S} UTC"
    differing = found.first
    if older is not None:
        compared += f", and {older.rows:,} of {older.older_day}, in its turn"
        differing = [*found.first, *older.first][:_SHOWN]
    differences = found.differences + (older.differences if older else 0)
    rows = hide_users(differing, f"parity of {stream.main_table.name}", stream.span.user_column)
    first = f" The first: {rows[0]}. {_WHAT_TO_DO}" if rows else ""
    return dg.AssetCheckResult(
        passed=not differences,
        description=f"{differences} differences in {compared}.{first}",
        metadata={
            "compared_rows": found.rows,
            "differences": differences,
            "headrace/older_day": str(older.older_day) if older else "none",
            "late_events_pending": state["late_events_pending"],
            "headrace/source_version": state["source_version"],
            "headrace/table_version": state["table_version"],
            "first_differences": dg.MetadataValue.md(render_rows(rows)),
        },
    )
