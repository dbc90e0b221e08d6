"""Replays rows that follow from their source alone: recomputes, compares, and replaces them in one commit.

No state is made. What differs is kept next to the tables, so that the replay can be finished after a kill, and undone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from jobs.operations.replay.comparison import LIVE_SIDE, REPLAYED_SIDE, Comparison
from platform_assets.errors import NotReadyError, UsageError
from platform_assets.streaming.delta.changed_days import is_partitioned_by_day
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.repair.table_difference import leave_out_keys
from platform_assets.streaming.stream_spec import Stream, TableStream

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource

AnyStream = TypeVar("AnyStream", bound=Stream)

_FOLDER = "_replays/{}.range"
_JOURNAL = "range.json"


class _Journal(msgspec.Struct, frozen=True):
    """How far a replay has come: `compared`, `swapping`, `swapped` or `undoing`."""

    state: str


@dataclass(frozen=True)
class ReplayScope:
    """Which rows are recomputed: between two times, or these offsets (`topic/partition/from-until`); else all.

    Of a stream over a table the rows that begin at or after `since` and are final at `until`; of one over Kafka
    the records that Kafka was given between them; with `unknown_fields` what the table has kept of these, not Kafka.
    """

    since: datetime | None = None
    until: datetime | None = None
    offsets: tuple[str, ...] = ()
    unknown_fields: bool = False


class RowReplay(ABC, Generic[AnyStream]):
    """Replays rows of one stream. `compare` changes no table; `swap` and `undo` need a group at rest."""

    _goes_stale = True
    """Whether a live stream may change what was compared, so that it is compared again when the group rests."""

    def __init__(self, stream: AnyStream, context: StreamContext, lakehouse: LakehouseResource, command: str) -> None:
        self._stream = stream
        self._context = context
        self._lakehouse = lakehouse
        self._command = command
        self._folder = _FOLDER.format(stream.name)
        self._difference = f"{lakehouse.root_uri}/{self._folder}/difference"
        self._found: Comparison | None = None

    def compare(self, session: SparkSession) -> Comparison:
        """Recomputes the rows and compares them with the table's. Raises `UsageError` where there is nothing to do.

        The last swap can't be undone afterwards. Not for a replay that is half done.
        """
        self.describe()  # before the last replay's difference is given up
        self._write_state("compared")
        self._found = self._compare(session)
        return self._found

    def is_half_done(self) -> bool:
        """Whether a swap or its undoing was cut short."""
        return self._read_state() in ("swapping", "undoing")

    def swap(self, session: SparkSession) -> int:
        """Puts the replayed rows in the place of the table's, in one commit; returns the table's version then.

        A swap that was cut short is finished, whatever scope is asked for now. Raises as `compare`.
        """
        if self._read_state() == "undoing":
            raise NotReadyError(f"The last swap is half undone. Finish that: {self._command} --undo")
        if self._read_state() != "swapping":
            found = self.compare(session) if self._found is None or self._goes_stale else self._found
            if doubled := found.doubled:
                raise UsageError(
                    f"{self._stream.main_table.name} has {doubled:,} rows more than once, which this can't fix. "
                    f"{self._fix_of_doubled()}"
                )
            self._write_state("swapping")
        version = self._replace(session, REPLAYED_SIDE, LIVE_SIDE)
        self._write_state("swapped")
        return version

    def undo(self, session: SparkSession) -> int:
        """Puts back what the last swap replaced; returns the table's version then."""
        if self._read_state() not in ("swapped", "undoing"):
            raise NotReadyError(f"There is no finished swap of a range of {self._stream.name} to undo.")
        self._write_state("undoing")
        version = self._replace(session, LIVE_SIDE, REPLAYED_SIDE)
        self._lakehouse.folder.remove(self._folder)
        return version

    def abandon(self) -> None:
        """Removes what was compared. Raises `NotReadyError` half-way through a swap, which needs it."""
        if self.is_half_done():
            raise NotReadyError(f"A swap is half done. Finish it: {self._command} --swap (or --undo)")
        self._lakehouse.folder.remove(self._folder)

    @abstractmethod
    def describe(self) -> str:
        """Describes what is recomputed. Raises `UsageError` if that is nothing."""

    @abstractmethod
    def _compare(self, session: SparkSession) -> Comparison:
        """Writes what differs to the Delta table `self._difference`: see `comparison.compare_rows`."""

    @abstractmethod
    def _fix_of_doubled(self) -> str:
        """What to do about rows that are there twice, in a sentence."""

    def _bounds(self) -> str:
        """A condition on the table's rows (as `t`) that holds for all that may be replaced."""
        return "true"

    def _follow(self, session: SparkSession, version: int) -> None:
        """Called after each commit that has replaced rows, and again if it was cut short."""

    def _replace(self, session: SparkSession, wanted: str, unwanted: str) -> int:
        """Rows of the one side in the place of those of the other, in the table and on its topic."""
        table = DeltaWriter(self._stream.main_table, self._context)
        rows, stale, bounds = self._read_sides(session, wanted, unwanted)
        if len(rows) or len(stale):
            info = CommitInfo(CommitKind.REPLAY, self._stream.name, notes={"rows_replaced": len(rows)})
            table.replace(rows, stale, bounds, info)
            if isinstance(self._stream, TableStream):
                publisher = KafkaPublisher(self._stream, self._context)
                publisher.publish(session, rows, "replay", table.version)
                publisher.publish(session, stale, "replay", table.version, removed=True)
            self._follow(session, table.version)
        return table.version

    def _read_sides(self, session: SparkSession, wanted: str, unwanted: str) -> tuple[pa.Table, pa.Table, str]:
        """The rows that are wanted, those that have no such row of the same key, and where both lie in the table."""
        from pyspark.sql import functions as F

        found, spec = self._read_difference(session), self._stream.main_table
        rows = found.where(F.col("change") == wanted).drop("change")
        others = found.where(F.col("change") == unwanted).drop("change")
        bounds = self._bounds()
        if is_partitioned_by_day(spec):
            (column,) = spec.partition_columns
            days = ", ".join(f"date '{row[0]}'" for row in found.select(column).distinct().collect())
            bounds += f" and t.{column} in ({days})" if days else ""
        return rows.toArrow(), leave_out_keys(others, rows, self._stream).toArrow(), bounds

    def _read_difference(self, session: SparkSession) -> DataFrame:
        return session.read.format("delta").load(self._difference)

    def _read_state(self) -> str | None:
        content = self._lakehouse.folder.read_file(f"{self._folder}/{_JOURNAL}")
        return None if content is None else msgspec.json.decode(content, type=_Journal).state

    def _write_state(self, state: str) -> None:
        self._lakehouse.folder.write_file(f"{self._folder}/{_JOURNAL}", msgspec.json.encode(_Journal(state)))


def replay_rows(
    session: SparkSession,
    replay: RowReplay,
    action: str,
    hold: Callable[[], AbstractContextManager[Any]],
    say: Callable[[str], None],
) -> Comparison | None:
    """One step of a replay of rows, as `replay_stream`'s of a whole table with its state."""
    if action == "undo":
        with hold():
            version = replay.undo(session)
        say(f"undone; version {version} has the rows from before.")
        return None
    if replay.is_half_done():
        found = None
    else:
        say(f"recomputes {replay.describe()} and compares them; this may take a while.")
        found = replay.compare(session)
        for line in found.describe():
            say(line)
    if action == "swap":
        with hold():
            version = replay.swap(session)
        say(f"version {version} has the replayed rows.")
    return found
