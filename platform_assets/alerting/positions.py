"""Follows one table's log from where it was left, and notes how far that is in `platform.alert_positions`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.sinks.table_log import Step, TableLog
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.delta.retried_commits import no_hooks
from platform_assets.tables.platform import ALERT_POSITIONS

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.lakehouse import LakehouseResource

# What was read since the last note is read again after a kill. Each note is a commit.
_NOTE_SECONDS = 60.0
# Listing a log of 20,000 commits takes a disk 50 ms, and an object store 20 requests.
_LIST_SECONDS = 60.0
# A table that does not exist yet is looked for as often as its first rows may wait.
_ABSENT_SECONDS = 1.0


@dataclass(frozen=True)
class Position:
    """All of a table up to a version was read. `digest` stands for the version's commit, made at `committed_at`."""

    table_id: str
    version: int
    digest: str
    committed_at: datetime


class FollowedLog:
    """One reader of one table. Used by one thread.

    A reader that is new begins at the table's newest version, or with all of a table that comes later.
    """

    def __init__(
        self, reader: str, table: str, lakehouse: LakehouseResource, check_lease: Callable[[], None] | None = None
    ) -> None:
        self.position: Position | None = None
        self.log = TableLog(table, lakehouse.table_uri(table), lakehouse.storage_options())
        self._reader, self._table, self._lakehouse = reader, table, lakehouse
        self._check_lease = check_lease
        self._was_absent = False
        self._looked_at = self._listed_at = -_LIST_SECONDS
        self._noted: Position | None = None
        self._noted_at = -_NOTE_SECONDS
        self._notes: DeltaTable | None = None

    def is_open(self) -> bool:
        """Whether there is a position to go on from; looks for one, and notes where a new reader begins."""
        if self.position is None and time.monotonic() - self._looked_at >= _ABSENT_SECONDS:
            self._looked_at = time.monotonic()
            self.position = self._noted = self._read_noted()
            if self.position is None:
                self.position = self._find_beginning()
        return self.position is not None

    def next_step(self, until: int | None = None) -> Step | None:
        """What the next versions changed, at most up to `until`; None while there is none. Only where it `is_open`.

        Raises `LogGapError` where the versions cannot be followed, and `TableSchemaError` as `TableLog.read_step`.
        """
        assert self.position is not None
        if time.monotonic() - self._listed_at > _LIST_SECONDS:
            self.log.demand_followed(self.position.version, self.position.digest)
            self._listed_at = time.monotonic()
        return self.log.read_step(self.position.version, self.position.digest, self.position.table_id, until)

    def pass_step(self, step: Step) -> None:
        """Goes on behind a step."""
        assert self.position is not None
        self.position = Position(self.position.table_id, step.version, step.digest, step.committed_at)

    def begin_anew(self) -> Position | None:
        """Goes on behind the table's newest version, past a gap; returns the position before it."""
        before, self.position = self.position, self._find_newest()
        return before

    def note(self, *, now: bool = False) -> None:
        """Notes the position where the last note is old, or `now`.

        Raises what `check_lease` does, and the lakehouse's disk or store.
        """
        import pyarrow as pa
        from deltalake import write_deltalake

        if self.position in (None, self._noted) or not (now or time.monotonic() - self._noted_at > _NOTE_SECONDS):
            return
        assert self.position is not None
        if self._check_lease is not None:
            self._check_lease()
        row = {"reader": self._reader, "noted_at": datetime.now(UTC), **vars(self.position)}
        if self._notes is None:
            self._notes = create_table(
                self._lakehouse.table_uri(ALERT_POSITIONS.name), ALERT_POSITIONS, self._lakehouse.storage_options()
            )
        self._notes.update_incremental()
        rows = pa.Table.from_pylist([row], build_arrow_schema(ALERT_POSITIONS))
        write_deltalake(self._notes, rows, mode="append", post_commithook_properties=no_hooks())
        self._noted, self._noted_at = self.position, time.monotonic()

    def _read_noted(self) -> Position | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._lakehouse.find_table(ALERT_POSITIONS.name)
        if table is None:
            return None
        # Filtered afterwards: a filter over texts that delta-rs has compacted fails (arrow#49368).
        notes = table.to_pyarrow_table()
        rows = notes.filter(pc.equal(notes["reader"].cast(pa.string()), self._reader))
        if not len(rows):
            return None
        [newest] = rows.sort_by([("noted_at", "descending")]).slice(0, 1).to_pylist()
        return Position(newest["table_id"], newest["version"], newest["digest"], newest["committed_at"])

    def _find_beginning(self) -> Position | None:
        if self._was_absent:
            return self._find(0)
        found = self._find_newest()
        self._was_absent = found is None
        return found

    def _find_newest(self) -> Position | None:
        bounds = self.log.read_bounds()
        return None if bounds is None else self._find(bounds[1])

    def _find(self, version: int) -> Position | None:
        table = self._lakehouse.find_table(self._table)
        digest, committed_at = self.log.read_digest(version), self.log.read_time(version)
        if table is None or digest is None or committed_at is None:
            return None
        return Position(str(table.metadata().id), version, digest, committed_at)
