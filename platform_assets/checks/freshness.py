"""Checks that no table is behind what feeds it. Nothing unread is fresh, however old the table is.

Freshness is measured against the source, not against the clock: a shop that sleeps, or a platform that was stopped
in good order, is not stale. So the verdict can be trusted in CI, hours after the streams were stopped.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.read_position import read_position
from platform_assets.reports.days import FIRST_DAY
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.stream_spec import Stream, select_derived
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.reports.whole.whole_table import WholeTable
    from platform_assets.streaming.ingest.lost_ranges import LostRange

# A stream commits every few seconds. One that has unread records and has been silent for this long is stuck, also
# when it is just coming back from a crash, which takes under two minutes with back-off.
from resources.kafka_open_transactions import read_held_back

STREAM_LIMIT = timedelta(minutes=5)

# Reports run hourly, behind other batch runs. Two missed runs are an error.
REPORT_LIMIT = timedelta(hours=2, minutes=30)

# Tables that are computed whole are computed each night. One missed run is an error, the time of one is not.
WHOLE_LIMIT = timedelta(hours=26)

# Commits searched for the newest one that wrote rows; upkeep (OPTIMIZE, VACUUM) never makes this many in a row.
_COMMITS_SEARCHED = 100

_UPKEEP = {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "CREATE TABLE", "FSCK", "RESTORE"}


@dataclass(frozen=True)
class Freshness:
    """Whether a table is fresh, and the sentence that says why."""

    is_fresh: bool
    description: str


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))


def judge_derived_table(
    table_written: datetime | None, source_created: datetime, source_written: datetime | None, limit: timedelta
) -> Freshness:
    """A table that is computed from another one: its last write against the source's.

    Fresh when the source has no rows (`source_written` None), or when the source went on for at most `limit` after
    the table's last write (after the source's creation, when the table was never written).
    """
    if source_written is None:
        return Freshness(True, "The source has no rows yet.")
    if table_written is not None and table_written >= source_written:
        return Freshness(True, "Nothing was written to the source since the table's last write.")
    behind = source_written - (table_written or source_created)
    written = "never written" if table_written is None else f"last written {table_written:%Y-%m-%d %H:%M:%S} UTC"
    return Freshness(
        behind <= limit,
        f"The table was {written}, its source {source_written:%Y-%m-%d %H:%M:%S} UTC: {_rounded(behind)} behind, "
        f"limit {limit}.",
    )


def judge_ingest(unread: int, table_written: datetime | None, now: datetime, limit: timedelta) -> Freshness:
    """A table that is fed from Kafka: fresh when nothing is unread, or when the stream has committed recently."""
    if unread == 0:
        return Freshness(True, "Kafka holds no unread record.")
    if table_written is None:
        return Freshness(False, f"{unread:,} records are unread and the stream has never committed. Start the stream.")
    silent = now - table_written
    return Freshness(
        silent <= limit,
        f"{unread:,} records are unread; the stream's last commit was {_rounded(silent)} ago, limit {limit}.",
    )


def judge_lost(lost: "Sequence[LostRange]") -> dg.AssetCheckResult:
    """A table whose stream cannot go on: what it was to read next is gone, or the topic is another one."""
    from platform_assets.streaming.ingest.lost_ranges import describe

    return dg.AssetCheckResult(
        passed=False, description=f"The stream cannot go on where it has read to. {describe(lost)}"
    )


def build_report_freshness_checks(
    tables: Iterable[TableSpec],
    source: str = "silver.events",
    limit: timedelta = REPORT_LIMIT,
    first_day: date = FIRST_DAY,
) -> list[dg.AssetChecksDefinition]:
    """One check `freshness` for each table that is computed from accepted records; needs the resource `lakehouse`.

    For reports by day, which begin with `first_day`, it is about the newest day of their own source
    (`report_freshness`); `source` is that of the others.
    """
    from platform_assets.checks.report_freshness import build_daily_freshness_check
    from platform_assets.reports import ALL_DAILY_REPORTS

    daily = {report.table.name: report for report in ALL_DAILY_REPORTS}
    return [
        build_daily_freshness_check(daily[spec.name], daily[spec.name].source.table.name, limit, first_day)
        if spec.name in daily
        else _build_derived_check(spec, source, limit)
        for spec in tables
    ]


def build_stream_freshness_checks(
    streams: Iterable[Stream], limit: timedelta = STREAM_LIMIT
) -> list[dg.AssetChecksDefinition]:
    """One check `freshness` for the main table of each stream over a table; needs the resource `lakehouse`.

    A micro-batch without a result (no purchase in a quiet hour) commits nothing, so the query's progress counts as
    well as the table's commits.
    """
    return [
        _build_derived_check(stream.main_table, stream.source.table.name, limit, query=stream.name)
        for stream in select_derived(streams)
    ]


def build_whole_freshness_checks(wholes: "Iterable[WholeTable]") -> list[dg.AssetChecksDefinition]:
    """One check `freshness` for each table that is computed whole, by its accepted records; needs `lakehouse`."""
    return [_build_derived_check(whole.table, whole.source.table.name, WHOLE_LIMIT) for whole in wholes]


def build_ingest_freshness_checks(
    tables: Iterable[TableSpec], topic: str, limit: timedelta = STREAM_LIMIT
) -> list[dg.AssetChecksDefinition]:
    """One check `freshness` for each main table of a stream over Kafka; needs `lakehouse` and `kafka`."""
    return [_build_ingest_check(spec, topic, limit) for spec in tables]


def read_last_write(table: "DeltaTable") -> datetime | None:
    """When rows were last written (the commit's time); None when never. Upkeep of the table is no write."""
    for commit in table.history(_COMMITS_SEARCHED):
        if commit.get("operation") not in _UPKEEP and not _is_empty_commit(commit):
            return datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
    return None


def _is_empty_commit(commit: dict[str, Any]) -> bool:
    # A report's commit is a write though it may hold no rows: the day was computed.
    if (commit.get("userMetadata") or "").startswith('{"report"'):
        return False
    ours = CommitInfo.parse(commit.get("userMetadata"))
    if ours is not None and ours.batch is None:
        return True  # a mark, or a repair of rows that were there
    metrics = commit.get("operationMetrics") or {}
    return str(metrics.get("numOutputRows", "")) == "0"


def read_last_batch(progress: "DeltaTable", query: str) -> datetime | None:
    """When the query's newest recorded micro-batch began; None when it has none in `platform.query_progress`."""
    import pyarrow.compute as pc

    from platform_assets.delta_reader import read_portions

    dataset = progress.to_pyarrow_dataset()
    # All of its history only where a query has none of the last day: it is stopped, or new.
    for only in (pc.field("started_at") >= datetime.now(UTC) - timedelta(days=1), None):
        newest: datetime | None = None
        for portion in read_portions(dataset, ["query", "started_at"], only):
            found = pc.max(portion["started_at"].filter(pc.equal(portion["query"], query))).as_py()
            newest = max((moment for moment in (newest, found) if moment is not None), default=None)
        if newest is not None:
            return newest
    return None


def _build_derived_check(
    spec: TableSpec, source: str, limit: timedelta, query: str | None = None
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="freshness",
        description=f"{spec.name} is at most {limit} behind {source}.",
        required_resource_keys={"lakehouse"},
    )
    def freshness(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        table, source_table = lakehouse.find_table(spec.name), lakehouse.find_table(source)
        if source_table is None:
            return dg.AssetCheckResult(
                passed=True, description=f"{source} does not exist yet: nothing to be behind of."
            )
        written = [None if table is None else read_last_write(table)]
        progress = None if query is None else lakehouse.find_table("platform.query_progress")
        if query is not None and progress is not None:
            written.append(read_last_batch(progress, query))
        verdict = judge_derived_table(
            max((moment for moment in written if moment is not None), default=None),
            datetime.fromtimestamp((source_table.metadata().created_time or 0) / 1000, UTC),
            read_last_write(source_table),
            limit,
        )
        return dg.AssetCheckResult(passed=verdict.is_fresh, description=verdict.description)

    return freshness


def _build_ingest_check(spec: TableSpec, topic: str, limit: timedelta) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="freshness",
        description=f"Nothing in topic {topic} is unread, or the stream has committed in the last {limit}.",
        required_resource_keys={"lakehouse", "kafka"},
    )
    def freshness(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse, kafka = context.resources.lakehouse, context.resources.kafka
        table = lakehouse.find_table(spec.name)
        position = read_position(lakehouse, table, topic)
        if lost := position.find_lost(topic, kafka):
            return judge_lost(lost)
        ends: dict[int, int] = kafka.end_offsets(topic, committed=True)
        unread = sum(max(0, end - position.next_offsets.get(partition, 0)) for partition, end in ends.items())
        written = None if table is None else read_last_write(table)
        now = datetime.now(UTC)
        verdict = judge_ingest(unread, written, now, limit)
        held = read_held_back(kafka, topic)
        since = min((found.since for found in held.values()), default=now)
        waiting = sum(found.count for found in held.values())
        said = verdict.description
        if waiting:
            said += (
                f" {waiting:,} records wait behind a transaction that is open since {since:%Y-%m-%d %H:%M:%S} UTC: "
                "nobody can read them before it ends."
            )
        is_open_long = now - since > limit
        return dg.AssetCheckResult(
            passed=verdict.is_fresh and not is_open_long,
            severity=dg.AssetCheckSeverity.WARN if verdict.is_fresh else dg.AssetCheckSeverity.ERROR,
            description=said,
            metadata={"kafka/unread": unread, "kafka/behind_open_transactions": waiting},
        )

    return freshness
