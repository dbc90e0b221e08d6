"""Keeps the logs of the streams' tables short: checkpoints, and removal of commits that nobody needs any more.

Part of the group, for a table's writer must not outrun its readers: a commit is removed only when it is older than the
table's log retention and every query of the group that reads the table has passed it. Readers outside the group have
the retention's time. The ledger has each commit's account by then (`HistoryWriter` runs before).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.streaming.checkpoints import read_last_planned_source
from platform_assets.streaming.delta_tables import open_table
from platform_assets.streaming.specs import StreamSpec, TableSource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# Readers replay the log from its last checkpoint: more commits cost each of them more at a start, more checkpoints
# cost the writer more.
COMMITS_OF_ONE_CHECKPOINT = 100


class LogUpkeep:
    """Called often (each minute), from one thread; does something when something is due."""

    def __init__(self, session: SparkSession, streams: Sequence[StreamSpec], context: StreamContext) -> None:
        self._session = session
        self._context = context
        self._tables = {table.name: -1 for stream in streams for table in stream.tables}
        self._checkpointed: dict[str, int] = {}
        self._readers = [
            (stream.source.table.name, context.checkpoint_uri(stream.main_table.name))
            for stream in streams
            if isinstance(stream.source, TableSource)
        ]

    def run(self) -> None:
        """One look at every table."""
        for name, seen_before in self._tables.items():
            table = open_table(self._context.table_uri(name), self._context.storage_options)
            version = table.version()
            if version - self._checkpointed.get(name, 0) >= COMMITS_OF_ONE_CHECKPOINT:
                table.create_checkpoint()
                self._checkpointed[name] = version
                # What the readers have passed was there at the look before: all that is older than the retention was.
                if self._is_read_beyond(name, seen_before):
                    table.cleanup_metadata()
            self._tables[name] = version

    def _is_read_beyond(self, name: str, version: int) -> bool:
        for source, checkpoint in self._readers:
            if source == name:
                planned = read_last_planned_source(self._session, checkpoint)
                if planned is None or planned["reservoirVersion"] <= version:
                    return False
        return version >= 0
