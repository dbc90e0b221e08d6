"""Takes one sample of a running group: memory, newest batches, state, files. Cheap, for it runs in the same process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.query_reports import read_newest_batches
from benchmarks.spark_usage import spark_rss_mib

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Sample(NamedTuple):
    """One figure at one time. `name` is a process, a query or a table."""

    seconds: float
    metric: str
    name: str
    value: float


FIELDS = Sample._fields
RSS_MIB, BATCH_SECONDS, STATE_ROWS = "rss_mib", "batch_seconds", "state_rows"
DATA_FILES, LOG_FILES = "data_files", "log_files"


class Sampler:
    """Samples all queries of the session and all tables under a local root."""

    def __init__(self, session: SparkSession, root: Path) -> None:
        self._session = session
        self._root = root
        self._tables: dict[str, LiveFiles] = {}

    def take(self, seconds: float) -> Iterator[Sample]:
        """The current figures, all with this time."""
        for process, mib in spark_rss_mib().items():
            yield Sample(seconds, RSS_MIB, process, round(mib, 1))
        for query, batch in read_newest_batches(self._session).items():
            yield Sample(seconds, BATCH_SECONDS, query, batch.seconds)
            yield Sample(seconds, STATE_ROWS, query, batch.state_rows)
        for log in sorted(self._root.glob("*/*/_delta_log")):
            table = f"{log.parent.parent.name}.{log.parent.name}"
            yield Sample(seconds, DATA_FILES, table, self._tables.setdefault(table, LiveFiles(log)).count())
            yield Sample(seconds, LOG_FILES, table, sum(1 for _ in log.iterdir()))


class LiveFiles:
    """Counts the data files of a table's newest version by reading each commit once.

    Not through a library's table object, whose memory would be part of what is measured.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._version = -1
        self._paths: set[str] = set()

    def count(self) -> int:
        """Counts the table's live files. Call it before commits are cleaned up unread: log files are kept for hours."""
        while (commit := self._log / f"{self._version + 1:020}.json").exists():
            for line in commit.read_text().splitlines():
                action = json.loads(line)
                if "add" in action:
                    self._paths.add(action["add"]["path"])
                elif "remove" in action:
                    self._paths.discard(action["remove"]["path"])
            self._version += 1
        return len(self._paths)
