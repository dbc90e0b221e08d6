"""Keeps the streams' tables cheap to read and to write: few files, a short log.

Part of the group, for a table's writer must not outrun its readers: a commit is removed only when it is older than the
table's log retention and every query of the group that reads the table has passed it, and a file that compaction has
replaced when nobody of them can ask for it any more. Readers outside the group have the retentions' time. The ledgers
have each commit's account by then (`GroupCare` writes them before). Rows never change: compaction rewrites files, and a
batch that meets it is committed again on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.streaming.changed_days import CHANGED_DAYS
from platform_assets.streaming.checkpoints import read_last_committed_batch, read_plan
from platform_assets.streaming.commit_source import has_read
from platform_assets.streaming.delta_tables import open_table
from platform_assets.streaming.hop_ledger import HOP_LEDGER
from platform_assets.streaming.late_events import LATE_EVENTS
from platform_assets.streaming.platform_tables import COMPLETE_UNTIL, LEDGER, QUERY_PROGRESS
from platform_assets.streaming.specs import StreamSpec, TableSource

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# Readers replay the log from its last checkpoint: more commits cost each of them more at a start, more checkpoints
# cost the writer more.
COMMITS_OF_ONE_CHECKPOINT = 100
# Each commit leaves a file. An upsert looks at all of them: 0.1 s with a thousand, 2.7 s with twenty thousand, which a
# day and a half of revenue_by_category makes. Compaction rewrites what is smaller than the target, so not too often.
COMMITS_OF_ONE_COMPACTION = 500
COMPACTED_FILE_BYTES = 64 * 1024 * 1024


class TableUpkeep:
    """Called often (each minute), from one thread; does something when something is due."""

    def __init__(self, session: SparkSession, streams: Sequence[StreamSpec], context: StreamContext) -> None:
        self._session = session
        self._context = context
        self._tables = {table.name: -1 for stream in streams for table in stream.tables}
        platform = (LATE_EVENTS, COMPLETE_UNTIL, CHANGED_DAYS, LEDGER, HOP_LEDGER, QUERY_PROGRESS)
        self._tables |= {table.name: -1 for table in platform}
        self._checkpointed: dict[str, int] = {}
        self._compacted: dict[str, int] = {}
        self._to_vacuum: set[str] = set()
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
            if version - self._compacted.get(name, 0) >= COMMITS_OF_ONE_COMPACTION:
                self._compacted[name] = version
                _compact(table)
                self._to_vacuum.add(name)
            if version - self._checkpointed.get(name, 0) >= COMMITS_OF_ONE_CHECKPOINT:
                self._checkpointed[name] = version
                table.create_checkpoint()
                # What the readers have passed was there at the look before: all that is older than the retention was.
                if self._is_read_beyond(name, seen_before):
                    table.cleanup_metadata()
            # A query opens the very files that a commit named, and none of a commit that it has passed.
            if name in self._to_vacuum and self._is_read_beyond(name, seen_before):
                self._to_vacuum.remove(name)
                table.vacuum(self._context.vacuum_hours, dry_run=False, enforce_retention_duration=False)
            self._tables[name] = version

    def _is_read_beyond(self, name: str, version: int) -> bool:
        for source, checkpoint in self._readers:
            if source == name:
                done = read_last_committed_batch(self._session, checkpoint)
                if done is None or not has_read(read_plan(self._session, checkpoint, done).source, version):
                    return False
        return version >= 0


def _compact(table: DeltaTable) -> None:
    from deltalake.exceptions import CommitFailedError

    try:
        table.optimize.compact(target_size=COMPACTED_FILE_BYTES, max_concurrent_tasks=1)
    except CommitFailedError:
        # An upsert rewrote one of the files meanwhile. The stream goes first; the next compaction takes them.
        table.update_incremental()
