"""Keeps the streams' tables cheap to read and to write: few files, a short log.

Part of the group, for a table's writer must not outrun its readers: a commit is removed only when it is older than the
table's log retention and every query of the group that reads the table has passed it, and a file that compaction has
replaced when nobody of them can ask for it any more. Readers outside the group have the retentions' time. The ledgers
have each commit's account by then (`GroupMaintenance` writes them before). Rows never change: compaction rewrites
files, and a batch that meets it is committed again on top. The platform's own tables are kept by each group that
writes them, at any time: whatever one finds done by another is done.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from platform_assets.errors import TableSchemaError
from platform_assets.folders import Folder
from platform_assets.int96_files import Int96Guard
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.delta.unnamed_files import remove_unnamed_files
from platform_assets.streaming.stream_spec import Stream, select_derived
from platform_assets.tables.platform import PLATFORM_TABLES

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.streaming.context import StreamContext

# Readers replay the log from its last checkpoint: more commits cost each of them more at a start, more checkpoints
# cost the writer more.
COMMITS_OF_ONE_CHECKPOINT = 100
# Each commit leaves a file. An upsert looks at all of them: 0.1 s with a thousand, 2.7 s with twenty thousand, which a
# day and a half of revenue_by_category makes. Compaction rewrites what is smaller than the target, so not too often.
COMMITS_OF_ONE_COMPACTION = 500
COMPACTED_FILE_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 1024 * 1024
"""A file smaller than this costs a reader more to open than to read."""
# Each costs what compacting the table costs; an upsert comes each ten seconds or so.
_COMPACTIONS_TRIED = 3

_log = logging.getLogger(__name__)


class TableUpkeep:
    """Called often (each minute), or twice at the end of a bounded run; does something when something is due.

    From one thread. The second look knows what every reader has passed since the first.
    """

    def __init__(self, streams: Sequence[Stream], context: StreamContext) -> None:
        self._context = context
        self._tables = {table.name: -1 for stream in streams for table in stream.tables}
        self._tables |= {table.name: -1 for table in PLATFORM_TABLES}
        self._checkpointed: dict[str, int] = {}
        self._compacted: dict[str, int] = {}
        self._int96 = {name: Int96Guard(context.storage_options) for name in self._tables}
        self._to_vacuum: set[str] = set()
        self._to_clean: set[str] = set()
        # A listing of the folder, which need not be every few minutes.
        self._cleared: dict[str, date] = {}
        self._readers = [
            (stream.source.table.name, Checkpoint.of(context, stream.main_table.name))
            for stream in select_derived(streams)
        ]

    def run(self) -> None:
        """One look at every table."""
        from deltalake.exceptions import TableNotFoundError

        for name, seen_before in self._tables.items():
            try:
                table = open_table(self._context.table_uri(name), self._context.storage_options)
            except TableNotFoundError:  # of what has never happened, such as a user who was forgotten
                continue
            version = table.version()
            if self._is_compaction_due(name, table):
                self._compacted[name] = version
                if self._is_rewritable(name, table):
                    compact(table)
                    self._to_vacuum.add(name)
            if name not in self._checkpointed:
                self._checkpointed[name] = max(0, find_checkpoint(table.table_uri, self._context.storage_options))
            if version - self._checkpointed[name] >= COMMITS_OF_ONE_CHECKPOINT:
                self._checkpointed[name] = version
                table.create_checkpoint()
                self._to_clean.add(name)
            # What the readers have passed was there at the look before: all that is older than the retention was.
            if name in self._to_clean and self._is_read_beyond(name, seen_before):
                self._clean_log(name, table)
            # A query opens the very files that a commit named, and none of a commit that it has passed.
            if name in self._to_vacuum and self._is_read_beyond(name, seen_before):
                self._to_vacuum.remove(name)
                table.vacuum(self._context.vacuum_hours, dry_run=False, enforce_retention_duration=False)
                self._remove_unnamed(name, table)
            self._tables[name] = version

    def _is_compaction_due(self, name: str, table: DeltaTable) -> bool:
        """Decides by the commits since the last compaction; on a process's first look, by the number of small files.

        Of many days with a small file each nothing can be put together.
        """
        import pyarrow as pa

        if name not in self._compacted:
            sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
            small = sum(size < SMALL_BYTES for size in sizes)
            is_spread = bool(table.metadata().partition_columns) and small < 2 * len(table.partitions())
            self._compacted[name] = table.version() - (0 if is_spread else small)
        return table.version() - self._compacted[name] >= COMMITS_OF_ONE_COMPACTION

    def _is_rewritable(self, name: str, table: DeltaTable) -> bool:
        """Whether compaction changes no value; otherwise the files grow many, which the check `table_files` shows."""
        try:
            self._int96[name].check(table)
        except TableSchemaError as error:
            _log.warning("%s is not compacted. %s", name, error)
            return False
        return True

    def _clean_log(self, name: str, table: DeltaTable) -> None:
        """Removes old commits from the log. Where another group removes them just now, the rest is left to a look."""
        try:
            table.cleanup_metadata()
        except FileNotFoundError as error:
            _log.info("Another group cleans the log of %s at this moment (%s).", name, str(error).splitlines()[0])
        else:
            self._to_clean.remove(name)

    def _remove_unnamed(self, name: str, table: DeltaTable) -> None:
        today = datetime.now(UTC).date()
        if self._cleared.get(name) != today:
            self._cleared[name] = today
            remove_unnamed_files(table, self._context.vacuum_hours)

    def note_replaced(self, name: str) -> None:
        """Files of this table were replaced or taken out: they are to be removed as those that compaction replaces."""
        self._to_vacuum.add(name)

    def _is_read_beyond(self, name: str, version: int) -> bool:
        # Here and not above: this is a Spark data source, and Dagster's processes import this file for its constants.
        from platform_assets.streaming.derive.commit_source import has_read

        for source, checkpoint in self._readers:
            if source == name:
                last = checkpoint.read_last_plan()
                if last is None or not has_read(last[1].source, version):
                    return False
        return version >= 0


def find_checkpoint(uri: str, storage_options: Mapping[str, str] | None) -> int:
    """The version of the log's last checkpoint; -1 when it has none."""
    content = Folder(uri, storage_options or {}).read_file("_delta_log/_last_checkpoint")
    return -1 if content is None else int(json.loads(content)["version"])


def compact(table: DeltaTable) -> None:
    """Puts small files together. An upsert that rewrites one of them meanwhile goes first; after a few that do, all.

    Lost often, the files grow many, which the check `table_files` shows.
    """
    from deltalake.exceptions import CommitFailedError

    for _ in range(_COMPACTIONS_TRIED):
        try:
            table.optimize.compact(target_size=COMPACTED_FILE_BYTES, max_concurrent_tasks=1)
        except CommitFailedError as error:
            table.update_incremental()
            lost_to = str(error).splitlines()[0]
        else:
            return
    _log.warning(
        "A compaction of %s lost %d times in a row against the table's writer (%s). Nothing is wrong; the next one, in "
        "%d commits, takes its files.", table.table_uri, _COMPACTIONS_TRIED, lost_to, COMMITS_OF_ONE_COMPACTION,
    )  # fmt: skip
