"""Takes repeated records out of files that a batch has written, and writes down what they repeat.

Which record repeats another is known when all of a batch are read; by then they lie in files, which nobody has
committed yet. A file with such records is written anew without them. That is cheaper than to keep each batch back until
its verdicts are known: few records are repeated, and few files have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from platform_assets.streaming.delta.portion_files import FileWriter, NewFile, PortionWriter, TableFolder
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_numbers import read_coordinates
from platform_assets.streaming.ingest.record_rows import as_repeated
from platform_assets.streaming.ingest.task_job import run_in_tasks
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    import numpy.typing as npt
    from pyspark.sql import SparkSession

    from platform_assets.streaming.arrays import Int64s

# Rows in memory at a time, some 20 MB of events.
_ROWS_AT_A_TIME = 50_000
# A job costs more than the driver takes for as much, and the driver's memory does not grow with it.
_MOST_BYTES_HERE = 16 * 1024 * 1024


@dataclass(frozen=True)
class FileToClean:
    """A file, and the records in it that repeat one: parallel arrays.

    Those are `coordinates` and places in a list (0 where there is none), the packed coordinates of what was `kept`, and
    whether both say the same.
    """

    file: NewFile
    coordinates: Int64s
    indexes: Int64s
    kept: Int64s
    is_same: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CleanedFile:
    """What came of one: the file without these records (None: it had no others), and files of repeated ones."""

    accepted: NewFile | None
    repeated: tuple[NewFile, ...]


def clean_files(
    session: SparkSession | None, topic: Topic, accepted: TableFolder, repeated: TableFolder,
    files: Sequence[FileToClean],
) -> list[CleanedFile]:  # fmt: skip
    """Cleans each of the files, in their order: here if that is little, else in a Spark job. The old ones are removed.

    Without a session all is done here.
    """

    def clean(file: FileToClean) -> CleanedFile:
        return clean_file(topic, accepted, repeated, file)

    if session is None or _is_little(session, files):
        return [clean(file) for file in files]
    return run_in_tasks(session, clean, files)


def clean_file(topic: Topic, accepted: TableFolder, repeated: TableFolder, found: FileToClean) -> CleanedFile:
    """Cleans one file. In memory are a part of its rows at a time."""
    taken = PortionWriter(repeated)
    left: FileWriter | None = None
    with accepted.files.open_input_file(found.file.path) as source:
        for batch in pq.ParquetFile(source).iter_batches(_ROWS_AT_A_TIME):
            rows = pa.Table.from_batches([batch])
            places = _find_places(topic, rows, found)
            is_taken = places >= 0
            if is_taken.any():
                own = places[is_taken]
                again = rows.filter(pa.array(is_taken))
                taken.write(as_repeated(topic, again, found.kept[own], pa.array(found.is_same[own])))
                rows = rows.filter(pa.array(~is_taken))
            if len(rows):
                left = left or FileWriter(accepted, found.file.partition, rows.schema)
                left.write(rows)
    cleaned = CleanedFile(None if left is None else left.close(), tuple(taken.close()))
    accepted.files.delete_file(found.file.path)
    return cleaned


def _find_places(topic: Topic, rows: pa.Table, found: FileToClean) -> Int64s:
    """The place of each row among the records to be taken out; -1 for one that stays."""
    known, own = np.unique(found.coordinates), read_coordinates(rows)
    slots = np.minimum(np.searchsorted(known, own), len(known) - 1)
    is_known = known[slots] == own
    indexes = np.zeros(len(rows), np.int64)
    if topic.is_list:
        indexes = rows[PLACE_IN_LIST[0]].cast(pa.int64()).to_numpy()
    width = int(max(found.indexes.max(initial=0), indexes.max(initial=0))) + 1
    wanted = np.searchsorted(known, found.coordinates) * width + found.indexes
    order = np.argsort(wanted)
    key = slots * width + indexes
    spot = np.minimum(np.searchsorted(wanted[order], key), len(wanted) - 1)
    return np.where(is_known & (wanted[order][spot] == key), order[spot], -1)


def _is_little(session: SparkSession, files: Sequence[FileToClean]) -> bool:
    size = sum(file.file.size_bytes for file in files)
    return size <= _MOST_BYTES_HERE and str(session.sparkContext.master).startswith("local")
