"""A replay of some hours or days: what is final there, computed again by the stream's twin, and put in its place.

No state is made: rows that are final follow from their events alone. So the live stream need not stop but for the
commit. What differs is kept beside the tables, so that the replay can be finished after a kill, and undone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobs.replay.comparison import LIVE_SIDE, REPLAYED_SIDE, Comparison, compare_rows
from platform_assets.errors import SettingError
from platform_assets.streaming.batch_table import BatchTable
from platform_assets.streaming.kafka_publisher import KafkaPublisher
from platform_assets.streaming.late_events import LATE_EVENTS
from platform_assets.streaming.platform_tables import COMPLETE_UNTIL, read_complete_until
from platform_assets.streaming.specs import StreamSpec, TableSource
from platform_assets.streaming.table_difference import leave_out_keys, read_pending, select_final
from platform_assets.streaming.twin import read_events, run_twin

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource

_FOLDER = "_replays/{}.range"
_JOURNAL = "range.json"


@dataclass(frozen=True)
class TimeRange:
    """Event time: rows that begin at or after `since` (None: all) and are final at `until` (None: as far as any is)."""

    since: datetime | None
    until: datetime | None


class RangeReplay:
    """Of one stream over silver.events. `compare` changes no table; `swap` and `undo` are for a group at rest."""

    def __init__(self, stream: StreamSpec, context: StreamContext, lakehouse: LakehouseResource) -> None:
        assert isinstance(stream.source, TableSource) and stream.span is not None
        self._stream = stream
        self._source = stream.source
        self._span = stream.span
        self._context = context
        self._lakehouse = lakehouse
        self._folder = _FOLDER.format(stream.name)
        self._command = f"headrace replay {stream.name} --range"
        self._difference = f"{lakehouse.root_uri}/{self._folder}/difference"

    def compare(self, session: SparkSession, within: TimeRange) -> Comparison:
        """Compares the twin's rows with the table's. Raises `SettingError` where nothing of the range is final.

        The last swap can't be undone afterwards. Not for a replay that is half done.
        """
        name = self._stream.main_table.name
        uri = self._context.table_uri(COMPLETE_UNTIL.name)
        state = read_complete_until(uri, self._stream.name, self._context.storage_options)
        complete = None if state is None else state["complete_until"]
        if state is None or complete is None or (within.since is not None and within.since >= complete):
            said = "nothing yet" if complete is None else f"only what ends until {complete:%Y-%m-%d %H:%M:%S} UTC"
            raise SettingError(f"Of {name} {said} is final. Name an earlier range, or wait.")
        until = min(within.until or complete, complete)
        self._write_state("compared")
        margin = self._span.reach + self._span.inactivity
        start = None if within.since is None else within.since - margin
        source = self._context.table_uri(self._source.table.name)
        twin = run_twin(read_events(session, source, state["source_version"], start, until), self._stream)
        live = session.read.format("delta").load(self._context.table_uri(name)).select(*twin.columns)
        late = read_pending(session, self._context.table_uri(LATE_EVENTS.name), self._stream, state["updated_at"])
        twin, live = (self._select(rows, late, within.since, until) for rows in (twin, live))
        return compare_rows(session, self._stream, twin, live, self._difference, until)

    def is_half_done(self) -> bool:
        """Whether a swap or its undoing was cut short."""
        return self._read_state() in ("swapping", "undoing")

    def swap(self, session: SparkSession, within: TimeRange) -> int:
        """Puts the twin's rows in the place of the table's, in one commit; returns the table's version then.

        A swap that was cut short is finished, whatever the range says now. Raises as `compare`.
        """
        if self._read_state() == "undoing":
            raise SettingError(f"The last swap is half undone. Finish that: {self._command} --undo")
        if self._read_state() != "swapping":
            if doubled := self.compare(session, within).doubled:
                raise SettingError(
                    f"{self._stream.main_table.name} has {doubled:,} rows more than once, which a range can't mend. "
                    f"Replay the whole: headrace replay {self._stream.name} --swap"
                )
            self._write_state("swapping")
        version = self._replace(session, REPLAYED_SIDE, LIVE_SIDE)
        self._write_state("swapped")
        return version

    def undo(self, session: SparkSession) -> int:
        """Puts back what the last swap replaced; returns the table's version then."""
        if self._read_state() not in ("swapped", "undoing"):
            raise SettingError(f"There is no finished swap of a range of {self._stream.name} to undo.")
        self._write_state("undoing")
        version = self._replace(session, LIVE_SIDE, REPLAYED_SIDE)
        self._lakehouse.remove_folder(self._folder)
        return version

    def abandon(self) -> None:
        """Removes what was compared. Raises `SettingError` half-way through a swap, which needs it."""
        if self.is_half_done():
            raise SettingError(f"A swap is half done. Finish it: {self._command} --swap (or --undo)")
        self._lakehouse.remove_folder(self._folder)

    def _select(self, rows: DataFrame, late: DataFrame, since: datetime | None, until: datetime) -> DataFrame:
        from pyspark.sql import functions as F

        if since is not None:
            rows = rows.where(F.col(self._span.start_column) >= F.lit(since))
        return select_final(rows, late, self._stream, until)

    def _replace(self, session: SparkSession, wanted: str, unwanted: str) -> int:
        """Rows of the one side in the place of those of the other, in the table and on its topic."""
        table = BatchTable(self._stream.main_table, self._context)
        rows, stale = self._read_sides(session, wanted, unwanted)
        if len(rows) or len(stale):
            table.replace(rows, stale, "true", {"replay": self._stream.name, "rows_replaced": len(rows)})
            publisher = KafkaPublisher(self._stream, self._context)
            publisher.publish(session, rows, "replay", table.version)
            publisher.publish(session, stale, "replay", table.version, removed=True)
        return table.version

    def _read_sides(self, session: SparkSession, wanted: str, unwanted: str) -> tuple[pa.Table, pa.Table]:
        """The rows that are wanted, and those that have no such row of the same key."""
        from pyspark.sql import functions as F

        found = session.read.format("delta").load(self._difference)
        rows = found.where(F.col("change") == wanted).drop("change")
        others = found.where(F.col("change") == unwanted).drop("change")
        return rows.toArrow(), leave_out_keys(others, rows, self._stream).toArrow()

    def _read_state(self) -> str | None:
        content = self._lakehouse.read_file(f"{self._folder}/{_JOURNAL}")
        return None if content is None else str(json.loads(content)["state"])

    def _write_state(self, state: str) -> None:
        self._lakehouse.write_file(f"{self._folder}/{_JOURNAL}", json.dumps({"state": state}).encode())


def replay_range(
    session: SparkSession,
    replay: RangeReplay,
    action: str,
    within: TimeRange,
    hold: Callable[[], AbstractContextManager[Any]],
    say: Callable[[str], None],
) -> Comparison | None:
    """One step of a replay of a range, as `replay_stream`'s of the whole table."""
    if action == "undo":
        with hold():
            version = replay.undo(session)
        say(f"undone; version {version} has the rows from before.")
        return None
    if replay.is_half_done():
        found = None
    else:
        found = replay.compare(session, within)
        for line in found.describe():
            say(line)
    if action == "swap":
        with hold():
            version = replay.swap(session, within)
        say(f"version {version} has the replayed rows.")
    return found
