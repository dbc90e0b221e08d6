"""What a replay would change: compares the shadow's rows with the live table's, wherever both are final."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobs.operations.replay.shadow import Shadow
from platform_assets.private_rows import hide_users
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.derive.commit_source import WHOLE_VERSION, find_files
from platform_assets.streaming.derive.late_events import as_late
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.repair.table_difference import (
    COPIES,
    LEFT_ROWS,
    count_copies,
    read_pending,
    select_columns,
    select_final,
)
from platform_assets.streaming.stream_spec import Stream, TableSource, TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS, QUERY_PROGRESS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext

DIFFERENCE = "difference"
"""The Delta table in the shadow's folder with all final rows that differ: the table's columns and `change`."""
REPLAYED_SIDE, LIVE_SIDE = "in the replay", "in the live table"
_SIDES = {REPLAYED_SIDE: "replayed", LIVE_SIDE: "live"}
_SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """Rows that end up to `until`, by the table's key: only the replay has `added`, only the live table `missing`.

    `changed` have the same key and other values, or are there more than once; `doubled` are so in the live table.
    `samples` are the first rows that differ, by key, the user in `user_column`; `notes` what else there is to say.
    Without `until`: rows of records, which are final when they are there.
    """

    until: datetime | None
    rows: int
    added: int
    missing: int
    changed: int
    doubled: int
    samples: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    user_column: str | None = None

    @property
    def differences(self) -> int:
        """Keys that differ."""
        return self.added + self.missing + self.changed

    @property
    def shown_samples(self) -> list[dict[str, Any]]:
        """The samples without user ids."""
        return hide_users(self.samples, user_column=self.user_column)

    def describe(self) -> list[str]:
        """Describes the difference for a person: how many rows, how many differ, and the first ones without user ids.

        A run's log has these lines for ever; the rows as they are lie in the table `DIFFERENCE`.
        """
        final = "" if self.until is None else f" are final, until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        return [
            *self.notes,
            f"{self.rows:,} rows of the replay{final}. "
            f"Compared with the live table: {self.added:,} added, {self.missing:,} missing, {self.changed:,} changed.",
            *(f"  {row}" for row in self.shown_samples),
        ]


def compare_with_live(session: SparkSession, shadow: Shadow) -> Comparison | None:
    """Compares what is final in both, and writes the rows that differ to the table `DIFFERENCE` in the shadow's folder.

    The live table is looked at as the group last wrote down that it is final. Left out is what a late event touches
    that the one has counted and the other could not yet. None: nothing is final in one of the two.
    """
    stream, states = shadow.stream, read_states(shadow)
    if states is None:
        return None
    live, replayed = states
    until = min(live["watermark"], replayed["watermark"])
    late = read_pending(session, shadow.live.table_uri(LATE_EVENTS.name), stream, live["updated_at"]).union(
        read_pending(session, shadow.context.table_uri(LATE_EVENTS.name), stream, replayed["updated_at"])
    )
    late = late.union(read_events_between(session, shadow, live["source_version"], replayed["source_version"], until))
    sides = [
        select_final(
            read_table(session, context, stream.main_table, state["table_version"]),
            late, stream, until,
        )
        for context, state in ((shadow.context, replayed), (shadow.live, live))
    ]  # fmt: skip
    return compare_rows(session, stream, sides[0], sides[1], f"{shadow.context.lakehouse_root}/{DIFFERENCE}", until)


def read_states(shadow: Shadow) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """How far the live table and the shadow's are final (rows of `COMPLETE_UNTIL`); None: one of them not at all."""
    live, replayed = (
        read_complete_until(context.table_uri(COMPLETE_UNTIL.name), shadow.stream.name, context.storage_options)
        for context in (shadow.live, shadow.context)
    )
    if live is None or replayed is None or None in (live["complete_until"], replayed["complete_until"]):
        return None
    return live, replayed


def compare_rows(
    session: SparkSession,
    stream: Stream,
    replayed: DataFrame,
    live: DataFrame,
    uri: str,
    until: datetime | None = None,
) -> Comparison:
    """Compares rows of the stream's table by its key, and writes those that differ as a Delta table, with `change`.

    A row that one side has more often is in it for both sides.
    """
    from pyspark.sql import functions as F

    counted = count_copies(replayed, live).persist()
    live_rows = F.col(LEFT_ROWS) - F.col(COPIES)
    try:
        totals = counted.agg(F.sum(LEFT_ROWS), F.count_if(live_rows > 1)).collect()[0]
        differing = counted.where(F.col(COPIES) != 0)
        sides = {REPLAYED_SIDE: F.col(LEFT_ROWS) > 0, LIVE_SIDE: live_rows > 0}
        parts = [
            differing.where(is_there).select(F.lit(side).alias("change"), *replayed.columns)
            for side, is_there in sides.items()
        ]
        parts[0].union(parts[1]).write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(uri)
    finally:
        counted.unpersist()
    key, found = list(stream.main_table.key), session.read.format("delta").load(uri)
    sides_of = found.groupBy(*key).agg(
        *(F.max(F.when(F.col("change") == side, 1).otherwise(0)).alias(name) for side, name in _SIDES.items())
    )
    counts = {
        (row["replayed"], row["live"]): row["count"] for row in sides_of.groupBy("replayed", "live").count().collect()
    }
    return Comparison(
        until, totals[0] or 0, added=counts.get((1, 0), 0), missing=counts.get((0, 1), 0),
        changed=counts.get((1, 1), 0), doubled=totals[1],
        samples=[row.asDict() for row in found.orderBy(*key, "change").limit(_SHOWN).collect()],
        user_column=stream.span.user_column if isinstance(stream, TableStream) else stream.main_table.roles.user_id,
    )  # fmt: skip


def read_cost(shadow: Shadow) -> dict[str, int]:
    """What the replay took: `rows`, `milliseconds`, and what its state holds now: `state_rows`, `state_bytes`."""
    table = open_table(shadow.context.table_uri(QUERY_PROGRESS.name), shadow.context.storage_options)
    batches = table.to_pyarrow_table().sort_by("batch_id").to_pylist()
    return {
        "rows": sum(batch["rows_in"] for batch in batches),
        "milliseconds": sum(batch["duration_ms"] or 0 for batch in batches),
        "state_rows": batches[-1]["state_rows"] if batches else 0,
        "state_bytes": batches[-1]["state_bytes"] if batches else 0,
    }


def read_table(session: SparkSession, context: StreamContext, spec: TableSpec, version: int) -> DataFrame:
    """The table as it was at that version, with the columns of the current code."""
    rows = session.read.format("delta").option("versionAsOf", version).load(context.table_uri(spec.name))
    return select_columns(rows, spec.columns)


def read_events_between(session: SparkSession, shadow: Shadow, one: int, other: int, until: datetime) -> DataFrame:
    """Events of the past (up to `until`) of the versions that only one of the two has read."""
    import pyarrow as pa

    source = shadow.stream.source
    assert isinstance(source, TableSource)
    log = CommitLog(shadow.live.table_uri(source.table.name), source.time_column, shadow.live.storage_options)
    start, end = ({"version": version, "files": WHOLE_VERSION} for version in sorted((one, other)))
    micros = round(until.timestamp() * 1e6)
    files = [f for f in find_files(log, start, end) if f.from_micros is None or f.from_micros <= micros]
    roles = source.table.roles
    names = [name for name in (source.time_column, roles.user_id) if name is not None]
    rows = (log.read_rows(file.path, names, source.event_types, roles.event_type) for file in files)
    schema = pa.schema([("event_time", pa.timestamp("us", tz="UTC")), ("user_id", pa.string())])
    late = (as_late(part, source).select(schema.names).cast(schema) for part in rows)
    found = pa.concat_tables([schema.empty_table(), *late])
    return session.createDataFrame(found).where(f"event_time <= timestamp '{until.isoformat()}'")
