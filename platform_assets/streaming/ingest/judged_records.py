"""What became of each record of a batch, and the commits that say so: files of Spark's tasks, without what repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.streaming.arrays import to_int64s
from platform_assets.streaming.ingest.deduplication import Duplicates
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_numbers import count_by_type, read_coordinates
from platform_assets.streaming.ingest.record_rows import ARRIVED, add_arrival
from platform_assets.streaming.ingest.taken_out import FileToClean, clean_files
from platform_assets.streaming.moments import MICROS_PER_DAY
from platform_assets.streaming.register.forgotten_users import ON_ARRIVAL, UNSURE_ON_ARRIVAL, build_erased
from platform_assets.streaming.register.named_users import Mention

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.arrays import Int64s
    from platform_assets.streaming.checkpoint.checkpoint import PlannedBatch
    from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
    from platform_assets.streaming.delta.commit_info import CommitInfo
    from platform_assets.streaming.delta.portion_files import NewFile
    from platform_assets.streaming.ingest.record_files import WrittenRecords
    from platform_assets.streaming.topic_spec import Topic


@dataclass(frozen=True)
class JudgedBatch:
    """The records of a batch of a topic, as tasks have written them, and what became of each.

    `numbers`: of all records (`record_numbers`), in the order of the tasks. `duplicates` are positions in `numbers`.
    The masks, and all columns that are asked for, are parallel to it.
    """

    topic: Topic
    written: Sequence[WrittenRecords]
    numbers: pa.Table
    duplicates: Duplicates

    def column(self, name: str) -> Int64s:
        """A column of the numbers."""
        return to_int64s(self.numbers, name)

    def accepted(self, name: str) -> Int64s:
        """A column of the numbers, of the accepted records."""
        found: Int64s = self.column(name)[self.is_accepted]
        return found

    def count_by_type(self) -> dict[str, int]:
        """Accepted records by type; all under one name, which is none, where the topic has no types."""
        of = "_type" if self.topic.roles.event_type else None
        return count_by_type(self.numbers.select([of or "mention"]).filter(pa.array(self.is_accepted)), of)

    @property
    def unresolved(self) -> frozenset[int]:
        """The ids for which the registry gave no schema; their records are rejected."""
        return _find_unresolved(self.written)

    @cached_property
    def is_rejected(self) -> Any:
        """Which records are quarantined."""
        return self.numbers["is_rejected"].to_numpy()

    @cached_property
    def is_erased(self) -> Any:
        """Which records are of a forgotten user, or may be."""
        return self.column("mention") != Mention.NONE

    @cached_property
    def is_duplicate(self) -> Any:
        """Which records repeat an accepted one."""
        found = np.zeros(len(self.numbers), dtype=bool)
        found[self.duplicates.positions] = True
        return found

    @cached_property
    def is_accepted(self) -> Any:
        """Which records go into the main table."""
        return ~(self.is_rejected | self.is_duplicate | self.is_erased)

    def take_out_duplicates(
        self, session: SparkSession | None, accepted: DeltaBatchWriter, repeated: DeltaBatchWriter
    ) -> tuple[list[NewFile], list[NewFile]]:
        """The files of the accepted records without those that repeat one, and the files of these.

        The tasks' own files are theirs no longer: call this once.
        """
        files = [file for task in self.written for file in task.accepted]
        unclean = list(self._find_unclean())
        cleaned = clean_files(session, self.topic, accepted.folder, repeated.folder, unclean)
        replaced = {file.file.path for file in unclean}
        left = [file for file in files if file.path not in replaced]
        left += [found.accepted for found in cleaned if found.accepted is not None]
        return left, [file for found in cleaned for file in found.repeated]

    def append_rejected(self, table: DeltaBatchWriter, info: CommitInfo) -> None:
        """Appends the rejected records to a table, in one commit; none where there are no such records."""
        if files := [file for task in self.written for file in task.quarantined]:
            table.append_files(files, info)

    def append_erased(self, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo) -> None:
        """The same with the coordinates of those of forgotten users; of several in one list once.

        What may be the user's goes too: nobody could say afterwards that it had come.
        """
        chosen = np.flatnonzero(self.is_erased)
        if self.topic.is_list:
            chosen = chosen[np.unique(read_coordinates(self.numbers)[chosen], return_index=True)[1]]
        if not len(chosen):
            return
        was = np.where(self.column("mention")[chosen] == Mention.CERTAIN, ON_ARRIVAL, UNSURE_ON_ARRIVAL)
        records = add_arrival(self.numbers.take(pa.array(chosen)), planned.ranges[0].topic, planned.arrival_micros)
        table.append(build_erased(records.rename_columns({ARRIVED: "arrived_at"}), pa.array(was)), info)

    def _find_unclean(self) -> Iterator[FileToClean]:
        """The tasks' files that hold repeated records, and which these are."""
        found = self.duplicates
        repeated = self.numbers.take(pa.array(found.positions))
        indexes = to_int64s(repeated, PLACE_IN_LIST[0]) if self.topic.is_list else np.zeros(len(repeated), np.int64)
        days, coordinates = to_int64s(repeated, "event_time") // MICROS_PER_DAY, read_coordinates(repeated)
        start = 0
        for task in self.written:
            own = (found.positions >= start) & (found.positions < start + task.count)
            start += task.count
            for file in task.accepted if own.any() else ():
                day = np.datetime64(file.partition["event_date"], "D").astype(np.int64)
                chosen = np.flatnonzero(own & (days == day))
                if len(chosen):
                    yield FileToClean(
                        file, coordinates[chosen], indexes[chosen], found.kept[chosen],
                        found.is_same[chosen],
                    )  # fmt: skip


def find_contested(written: Sequence[WrittenRecords]) -> frozenset[int]:
    """The ids for which a part of a batch had no schema, where another part had one of them; else none."""
    unresolved = _find_unresolved(written)
    return unresolved if any(unresolved & task.resolved for task in written) else frozenset()


def _find_unresolved(written: Sequence[WrittenRecords]) -> frozenset[int]:
    return frozenset().union(*(task.unresolved for task in written))
