"""A stream over a table as a query: its source is a Python process, which may be slow to start."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from platform_assets.streaming.checkpoint import state_plan
from platform_assets.streaming.checkpoint.checkpoint import STATE_PARTS
from platform_assets.streaming.derive.batch_scratch import remove_old_scratch
from platform_assets.streaming.derive.commit_stream import read_commits
from platform_assets.streaming.derive.table_writer import TableWriter
from platform_assets.streaming.engine.stream_query import StreamQuery
from platform_assets.streaming.ingest.lost_checkpoint import require_checkpoint

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from platform_assets.errors import HeadraceError
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.stream_spec import TableStream

_log = logging.getLogger(__name__)

# Spark starts a Python process for the source of each query over a table, and gives it ten seconds (not a setting).
# On a loaded machine that is too short, so they are started one after the other, and again when they were too slow.
SOURCE_SECONDS = 5.0
SOURCE_ATTEMPTS = 5
SOURCE_TIMED_OUT = "Python worker failed to connect back"
# A start takes a second at least, and each look at a query's status takes part of a core that the start is in need of.
_START_POLL_SECONDS = 0.1


class TableQuery(StreamQuery):
    """Creates the stream's table, empty, when made. See `StreamQuery`."""

    _pool = "derived"

    def __init__(self, session: SparkSession, stream: TableStream, context: StreamContext) -> None:
        self.stream = stream
        writer = TableWriter(stream, context)
        self.table = writer.table
        """The table that it writes."""
        super().__init__(session, stream, writer, context)
        self._output_mode = "update" if stream.write_mode == "upsert" else "append"
        self._source_attempts = 0

    def start(self, *, bounded: bool = False) -> None:
        """Starts the query, or starts it again after a stop. It is waited for until its source is up."""
        super().start(bounded=bounded)
        if self._query is not None:
            _wait_for_source(self._query)

    def _read_source(self) -> DataFrame:
        if self._checkpoint.read_generation() is None:
            require_checkpoint(self.name, self.table)
        if self.stream.write_mode != "append":
            remove_old_scratch(self.name, self._session, self._context)
        rows = self.stream.transform(read_commits(self._session, self.stream.source, self._context))
        state_plan.check(self._checkpoint, self.name, state_plan.describe(rows, self.stream))
        self._tell_of_state_parts()
        return rows

    def _tell_of_state_parts(self) -> None:
        wanted, found = self._session.conf.get(STATE_PARTS), self._checkpoint.read_state_parts()
        if found is not None and str(found) != wanted:
            _log.warning(
                "The state of query %s has %d parts, and keeps them: HEADRACE_SHUFFLE_PARTITIONS, now %s, is for new "
                "state. To rebuild it in that many parts: headrace replay %s --swap.",
                self.name, found, wanted, self.name,
            )  # fmt: skip

    def _judge_end(self, error: str) -> HeadraceError | None:
        """See `StreamQuery`. A query whose source did not start in Spark's time is started again, a few times."""
        if SOURCE_TIMED_OUT in error and self._source_attempts < SOURCE_ATTEMPTS - 1:
            self._source_attempts += 1
            self.start(bounded=self._bounded)
            return None
        return super()._judge_end(error)


def _wait_for_source(query: StreamingQuery) -> None:
    """Waits until the query has asked its source for the first time, or is dead, or the time is over."""
    deadline = time.monotonic() + SOURCE_SECONDS
    while query.isActive and time.monotonic() < deadline:
        message = query.status["message"]
        if not message.startswith(("Initializing", "Getting offsets")):
            return
        time.sleep(_START_POLL_SECONDS)
