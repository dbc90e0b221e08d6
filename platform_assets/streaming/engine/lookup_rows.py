"""Rows that a streaming query looks up, as one Parquet file of this machine that each batch reads anew.

A Delta table would do the same, but of a version that it has not seen Spark reads the log, by several jobs, while it
plans the batch: four fifths of the time between two batches, in which a relay passes nothing on. Of files it asks the
list that it has made last.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

# A batch that has just been planned reads the file that was the newest one then, within seconds or, on a machine that
# is busy, dozens of them.
_FILES_KEPT = 12
# Spark leaves a file of before this moment out of its list; `replace` gives the time 0 to the files that were replaced.
_REPLACED_BEFORE = "2000-01-01T00:00:00"


class LookupRows:
    """See the module. `replace` and `read` may be called from different threads.

    `folder` is empty or not there yet, and this object's own; who made it removes it, after the query's end. Executors
    read it: they have to be threads of this machine.
    """

    def __init__(self, folder: Path, rows: pa.Table) -> None:
        self._folder, self._rows = folder, rows
        self._number = 0
        self._files: Any = None
        self._lock = threading.Lock()

    def replace(self, rows: pa.Table) -> None:
        """Gives these rows, of the same columns, to each batch that is planned from now on.

        Raises OSError when the file can't be written; batches go on with the earlier rows.
        """
        with self._lock:
            self._rows = rows
            if self._files is not None:
                self._write()
                self._files.refresh()

    def read(self, session: SparkSession) -> DataFrame:
        """The rows as a table for a query's plan: each of its batches has those of the last `replace` before it."""
        from pyspark.sql.pandas.types import from_arrow_schema

        with self._lock:
            if self._files is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._write()
            reader = session.read.schema(from_arrow_schema(self._rows.schema))
            found = reader.option("modifiedAfter", _REPLACED_BEFORE).parquet(f"file:{self._folder}")
            self._files = _find_files(found)
            return found

    def _write(self) -> None:
        """Writes the rows as a new file, of which Spark's next list has no other."""
        import pyarrow.parquet as pq

        self._number += 1
        name = f"{self._number:09d}.parquet"
        draft = self._folder / f"_{name}"
        pq.write_table(self._rows, draft)
        replaced = sorted(self._folder.glob("[0-9]*.parquet"))
        for file in replaced:
            os.utime(file, (0, 0))
        draft.rename(self._folder / name)
        for file in replaced[:-_FILES_KEPT]:
            file.unlink()


def _find_files(rows: DataFrame) -> Any:
    """Spark's list of the folder's files (a `FileIndex`): the same object in the plan of each batch."""
    return rows._jdf.queryExecution().analyzed().collectLeaves().head().relation().location()
