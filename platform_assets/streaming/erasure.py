"""Takes one user's rows out of every table, and leaves what the ledger and the sums need to stay right.

Nobody may write the tables meanwhile, and each stream over silver.events must have read all of it: what a stream has
not read would be read from files of before. The steps can be repeated; silver.events, by which the others are found,
is last. What the user's events were counted in is listed in `platform.late_events`, without the user: these windows are
computed again when they are final, as for a late event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.batch_table import BatchTable
from platform_assets.streaming.changed_days import is_partitioned_by_day
from platform_assets.streaming.delta_tables import build_arrow_schema
from platform_assets.streaming.forgotten_users import build_erased, is_record_of
from platform_assets.streaming.kafka_publisher import KafkaPublisher
from platform_assets.streaming.late_events import build_repairs
from platform_assets.streaming.specs import KafkaSource, StreamSpec, TableSource
from platform_assets.tables.platform import ERASED_RECORDS, LATE_EVENTS, REQUEUED_RECORDS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

USER = "user_id"
ERASURE = "erasure"
"""In a commit's own words: the hash of the user whose rows it took out."""
# Files that no version names may be a batch run's that is about to name them. A run is over by then.
_UNKNOWN_FILES_HOURS = 24
_OF_EVENTS = ["event_id", "event_type", "event_time", "event_date", "kafka_timestamp", "ingested_at"]
_PLACE = ["topic", "kafka_partition", "kafka_offset"]


@dataclass(frozen=True)
class Traces:
    """What the stream over Kafka has of a user: of each of its tables the rows' key and what tells when and what."""

    events: pa.Table
    quarantined: pa.Table
    deduplicated: pa.Table
    requeued: pa.Table


class Eraser:
    """Of one user. `tables`: all that may have rows of users, beside the streams' own; those not there are left out."""

    def __init__(
        self,
        user: str,
        user_hash: str,
        streams: Sequence[StreamSpec],
        tables: Sequence[TableSpec],
        context: StreamContext,
    ) -> None:
        self._user = user
        self._hash = user_hash
        self._context = context
        (self._ingest,) = (stream for stream in streams if isinstance(stream.source, KafkaSource))
        self._derived = [stream for stream in streams if isinstance(stream.source, TableSource)]
        specs = [*(stream.main_table for stream in self._derived), LATE_EVENTS, *tables]
        self.personal = [spec for spec in specs if _has_users(spec) and self._exists(spec)]
        """The tables, beside the ingesting stream's own, that have rows of users."""

    def find_traces(self) -> Traces:
        """Reads the whole tables: nothing in them is ordered by user."""
        events, quarantined, deduplicated = self._ingest.tables
        own = self._find(events, _OF_EVENTS)
        refused = self._scan(quarantined, ["quarantined_at"], ["key", "value"], self._find_refused)
        ids = pa.array(pc.unique(own["event_id"]).to_pylist(), pa.string())

        def is_own(rows: pa.RecordBatch) -> pa.BooleanArray:
            return _is_in(rows, "event_id", ids)

        def repeats_or_is_own(rows: pa.RecordBatch) -> pa.BooleanArray:
            # Of another user's id, with other content: the content is the user's.
            other = pc.fill_null(_is_in(rows, "other_user_id", pa.array([self._user])), False)
            return pc.or_(is_own(rows), other)

        repeated = self._scan(deduplicated, ["deduplicated_at"], ["event_id", "other_user_id"], repeats_or_is_own)
        return Traces(own, refused, repeated, self._scan(REQUEUED_RECORDS, [], ["event_id"], is_own))

    def erase(self, session: SparkSession, found: Traces) -> dict[str, int]:
        """Takes everything out; returns the rows by table. Cut short, it is to be called again."""
        now = datetime.now(UTC)
        self._write_coordinates(found, now)
        for stream in self._derived:
            assert stream.span is not None
            if not stream.span.by_user:
                self._list_for_repair(stream, found.events, now)
        counts = {spec.name: self._erase_personal(session, spec) for spec in self.personal}
        events, quarantined, deduplicated = self._ingest.tables
        counts[deduplicated.name] = self._erase_rows(deduplicated, found.deduplicated.select(_PLACE))
        counts[quarantined.name] = self._erase_rows(quarantined, found.quarantined.select(_PLACE))
        # It tells which quarantined records count as accepted: gone with these, not before.
        counts[REQUEUED_RECORDS.name] = self._erase_rows(REQUEUED_RECORDS, found.requeued.select(_PLACE))
        counts[events.name] = self._erase_rows(events, found.events.select(_PLACE), found.events["event_date"])
        return counts

    def find_erasing_commit(self) -> tuple[int, int] | None:
        """The version of silver.events that took the user's rows out, and how many; None: it had none."""
        commit = self._open(self._ingest.main_table).find_commit(ERASURE, self._hash)
        return None if commit is None else (commit["version"], commit["erased_rows"])

    def vacuum(self) -> None:
        """Removes the files that still have the user's rows. See `BatchTable.vacuum` for who may be at work then."""
        own = {*self._ingest.tables, REQUEUED_RECORDS, LATE_EVENTS, *(stream.main_table for stream in self._derived)}
        for spec in {*own, *self.personal}:
            if self._exists(spec):
                table = self._open(spec)
                table.vacuum(full=spec in own, hours=0)
                if spec not in own:
                    table.vacuum(full=True, hours=_UNKNOWN_FILES_HOURS)

    def _write_coordinates(self, found: Traces, now: datetime) -> None:
        """Each Kafka record once: one that was taken in again is in quarantine too."""
        requeued = {tuple(place) for place in zip(*(found.requeued[name].to_pylist() for name in _PLACE), strict=True)}
        refused = zip(*(found.quarantined[name].to_pylist() for name in _PLACE), strict=True)
        only_refused = found.quarantined.filter(pa.array([place not in requeued for place in refused], pa.bool_()))
        erased = pa.concat_tables(
            build_erased(rows.append_column("arrived_at", rows[arrival]), was, now)
            for was, arrival, rows in (
                ("accepted", "ingested_at", found.events),
                ("quarantined", "quarantined_at", only_refused),
                ("deduplicated", "deduplicated_at", found.deduplicated),
            )
        )
        if len(erased):
            self._open(ERASED_RECORDS).replace(erased, erased.slice(0, 0), "true", {ERASURE: self._hash})

    def _list_for_repair(self, stream: StreamSpec, events: pa.Table, now: datetime) -> None:
        rows = build_repairs(stream, events.select([*_PLACE, "event_time", "event_type"]), now)
        if len(rows):
            self._open(LATE_EVENTS).replace(rows, rows.slice(0, 0), f"t.query = '{stream.name}'", {ERASURE: self._hash})

    def _erase_personal(self, session: SparkSession, spec: TableSpec) -> int:
        stream = next((stream for stream in self._derived if stream.main_table == spec), None)
        is_published = stream is not None and stream.publish_topic in self._context.publish_topics
        day = list(spec.partition_columns) if is_partitioned_by_day(spec) else []
        rows = self._find(spec, [c.name for c in spec.columns] if is_published else [USER, *day])
        if stream is not None and is_published and len(rows):
            # Before: who is cut short between the two still has the rows to name.
            KafkaPublisher(stream, self._context).publish(
                session, rows, ERASURE, self._open(spec).version, removed=True
            )
        key = list(dict.fromkeys([*spec.key, USER]))
        return self._erase_rows(spec, rows.select(key), rows[day[0]] if day else None)

    def _erase_rows(self, spec: TableSpec, rows: pa.Table, days: pa.ChunkedArray | None = None) -> int:
        if len(rows):
            bounds = "true" if days is None else _in_days(spec.partition_columns[0], days)
            self._open(spec).erase(rows, bounds, {ERASURE: self._hash, "erased_rows": len(rows)})
        return len(rows)

    def _find_refused(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Records of the user by their key or by their text."""
        keys, values = (rows[name].cast(pa.binary()) for name in ("key", "value"))
        found = pc.fill_null(pc.equal(keys, self._user.encode()), False)
        named = pc.fill_null(pc.match_substring(values, json.dumps(self._user)[1:-1]), False)
        named = pc.or_(named, pc.fill_null(pc.match_substring(values, self._user), False))
        suspects = pc.indices_nonzero(pc.and_not(named, found)).to_pylist()
        verdicts = found.to_pylist()
        for row in suspects:
            verdicts[row] = is_record_of(self._user, values[row].as_py())
        return pa.array(verdicts, pa.bool_())

    def _find(self, spec: TableSpec, columns: list[str]) -> pa.Table:
        return self._scan(spec, columns, [USER], lambda rows: _is_in(rows, USER, pa.array([self._user])))

    def _scan(
        self, spec: TableSpec, columns: list[str], tested: list[str], test: Callable[[pa.RecordBatch], pa.BooleanArray]
    ) -> pa.Table:
        """The rows that pass the test, each with its key and these columns."""
        wanted = list(dict.fromkeys([*spec.key, *columns]))
        types = build_arrow_schema(spec)
        schema = pa.schema([types.field(name) for name in wanted])
        parts = [schema.empty_table()]
        for batch in self._open(spec).find_rows(wanted, tested, test):
            parts.append(pa.Table.from_batches([batch]).cast(schema))
        return pa.concat_tables(parts)

    def _open(self, spec: TableSpec) -> BatchTable:
        return BatchTable(spec, self._context)

    def _exists(self, spec: TableSpec) -> bool:
        from deltalake import DeltaTable

        return DeltaTable.is_deltatable(self._context.table_uri(spec.name), dict(self._context.storage_options))


def _has_users(spec: TableSpec) -> bool:
    return USER in {column.name for column in spec.columns}


def _is_in(rows: pa.Table | pa.RecordBatch, column: str, values: pa.Array) -> pa.BooleanArray:
    # Files that delta-rs has rewritten hold view types, which few kernels know.
    return pc.is_in(rows[column].cast(pa.string()), value_set=values)


def _in_days(column: str, days: pa.ChunkedArray) -> str:
    named = ", ".join(f"date '{day}'" for day in pc.unique(days).to_pylist())
    return f"t.{column} in ({named})"
