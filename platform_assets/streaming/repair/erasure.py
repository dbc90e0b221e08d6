"""Takes one user's rows out of every table, and leaves what the ledger and the sums need to stay right.

Nobody may write the tables meanwhile, and each stream over the accepted records must have read all of them: what a
stream has not read would be read from replaced files. The steps can be repeated; the table of accepted records, by
which the others are found, is last. What the user's events were counted in is listed in `platform.late_events`, without
the user: these windows are computed again when they are final, as for a late event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.delta.changed_days import is_partitioned_by_day
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import find_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.derive.late_events import as_late, build_repairs
from platform_assets.streaming.register.forgotten_users import build_erased
from platform_assets.streaming.register.found_traces import NOTHING_ELSE, AlsoErased, Traces
from platform_assets.streaming.register.traces import TraceFinder, read_coordinates
from platform_assets.streaming.stream_spec import KafkaStream, TableStream
from platform_assets.tables.coordinates import COORDINATES
from platform_assets.tables.platform import ERASED_RECORDS, LATE_EVENTS, REQUEUED_RECORDS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# Files that no version names may be a batch run's that is about to name them. A run is over by then.
_UNKNOWN_FILES_HOURS = 24
# The column of users of the platform's own tables, and of a report that does not say otherwise.
_USER = "user_id"
# One row an offset and arrival in the register of erased records.
_ONCE = (*COORDINATES, "arrived_at")


class Eraser:
    """Erases one user's rows of one topic, which says whose its records are.

    `derived` are the streams over its accepted records (and, of one topic, those over other tables), `tables` what else
    may have rows of users: enough for one of several topics. Missing tables are left out.
    """

    def __init__(
        self,
        user: str,
        user_hash: str,
        ingest: KafkaStream,
        derived: Sequence[TableStream],
        tables: Sequence[TableSpec],
        context: StreamContext,
    ) -> None:
        self._user = user
        self._info = CommitInfo(CommitKind.ERASURE, user_hash)
        self._context = context
        self._ingest = ingest
        self._derived = derived
        users = {s.main_table: s.source.table.roles.user_id or s.span.user_column for s in self._derived}
        users |= {spec: spec.roles.user_id or _USER for spec in tables}
        self.personal = {
            spec: name for spec, name in users.items()
            if name in {column.name for column in spec.columns} and self._exists(spec)
        }  # fmt: skip
        """The tables, besides the ingesting stream's own, that have rows of users, each with the users' column."""

    def find_traces(self, also: AlsoErased) -> Traces:
        """What is to go of the tables of the stream over Kafka."""
        return TraceFinder(self._user, self._ingest.topic, also, self._context).find()

    def erase(self, session: SparkSession, found: Traces) -> dict[str, int]:
        """Takes everything out; returns the rows by table. Cut short, it is to be called again."""
        now = datetime.now(UTC)
        self._write_coordinates(found, now)
        for stream in self._derived:
            if stream.source.table.name == self._ingest.main_table.name and not stream.is_latest:
                self._list_for_repair(stream, found.others if stream.span.by_user else found.erased_events, now)
        counts = {spec.name: self._erase_personal(session, spec, name) for spec, name in self.personal.items()}
        events, quarantined, deduplicated = self._ingest.tables
        counts[deduplicated.name] = self._erase_rows(deduplicated, found.deduplicated.select(deduplicated.key))
        counts[quarantined.name] = self._erase_rows(quarantined, found.quarantined.select(quarantined.key))
        # It tells which quarantined records count as accepted: gone with these, not before.
        counts[REQUEUED_RECORDS.name] = self._erase_rows(REQUEUED_RECORDS, found.requeued.select(REQUEUED_RECORDS.key))
        gone = found.erased_events
        counts[events.name] = self._erase_rows(events, gone.select(events.key), gone["event_date"])
        return counts

    def find_erasing_commit(self) -> tuple[int, int] | None:
        """The version of the accepted records that took the user's rows out, and how many; None: it had none."""
        own = (self._info.kind, self._info.value)
        found = self._open(self._ingest.main_table).find_commit(lambda info: (info.kind, info.value) == own)
        return None if found is None else (found[0], found[1].erased_rows or 0)

    def vacuum(self) -> None:
        """Removes the files that still have the user's rows. See `DeltaWriter.vacuum` for who may be at work then."""
        own = {*self._ingest.tables, REQUEUED_RECORDS, LATE_EVENTS, *(stream.main_table for stream in self._derived)}
        for spec in {*own, *self.personal}:
            if self._exists(spec):
                table = self._open(spec)
                table.vacuum(full=spec in own, hours=0)
                if spec not in own:
                    table.vacuum(full=True, hours=_UNKNOWN_FILES_HOURS)

    def _write_coordinates(self, found: Traces, now: datetime) -> None:
        """Each Kafka record once: one that was re-ingested is in quarantine too."""
        requeued, refused = set(read_coordinates(found.requeued)), read_coordinates(found.quarantined)
        only_refused = found.quarantined.filter(pa.array([place not in requeued for place in refused], pa.bool_()))
        erased = pa.concat_tables(
            build_erased(rows.append_column("arrived_at", rows[arrival]), was, now)
            for was, arrival, rows in (
                ("accepted", "ingested_at", found.erased_events),
                ("quarantined", "quarantined_at", only_refused),
                ("deduplicated", "deduplicated_at", found.deduplicated),
            )
        )
        if self._ingest.topic.is_list:
            numbered = erased.append_column("number", pa.array(range(len(erased)), pa.int64()))
            first = numbered.group_by(_ONCE).aggregate([("number", "min")])["number_min"]
            erased = erased.take(first.sort())
        if len(erased):
            self._open(ERASED_RECORDS).put(erased, "true", self._info)

    def _list_for_repair(self, stream: TableStream, events: pa.Table, now: datetime) -> None:
        roles = stream.source.table.roles
        # Who is erased is not named, neither by the user nor by an id that may tell who it is.
        unnamed = {roles.event_id} if stream.span.by_user else {roles.event_id, roles.user_id}
        events = events.select([name for name in events.column_names if name not in unnamed])
        rows = build_repairs(stream, as_late(events, stream.source), now)
        if len(rows):
            self._open(LATE_EVENTS).put(rows, f"t.query = '{stream.name}'", self._info)

    def _erase_personal(self, session: SparkSession, spec: TableSpec, user_column: str) -> int:
        stream = next((stream for stream in self._derived if stream.main_table == spec), None)
        is_published = stream is not None and stream.publish_topic in self._context.publish_topics
        day = list(spec.partition_columns) if is_partitioned_by_day(spec) else []
        # Deleted by the name alone: the keys of a busy user's pairs may be more than memory holds.
        finder = TraceFinder(self._user, self._ingest.topic, NOTHING_ELSE, self._context)
        columns = [c.name for c in spec.columns] if is_published else [user_column, *day]
        rows = finder.find_own(spec, user_column, columns)
        if stream is not None and is_published and len(rows):
            # Published first: an erasure cut short between the two still has the rows to name.
            KafkaPublisher(stream, self._context).publish(
                session, rows, "erasure", self._open(spec).version, removed=True
            )
        return self._erase_rows(spec, rows.select([user_column]), rows[day[0]] if day else None)

    def _erase_rows(self, spec: TableSpec, rows: pa.Table, days: pa.ChunkedArray | None = None) -> int:
        if len(rows):
            bounds = "true" if days is None else _in_days(spec.partition_columns[0], days)
            self._open(spec).erase(rows, bounds, replace(self._info, erased_rows=len(rows)))
        return len(rows)

    def _open(self, spec: TableSpec) -> DeltaWriter:
        return DeltaWriter(spec, self._context)

    def _exists(self, spec: TableSpec) -> bool:
        return find_table(self._context.table_uri(spec.name), self._context.storage_options) is not None


def _in_days(column: str, days: pa.ChunkedArray) -> str:
    named = ", ".join(f"date '{day}'" for day in pc.unique(days).to_pylist())
    return f"t.{column} in ({named})"
