"""A Delta table as this process has it open: its rows and its commits, at its newest version.

What is read is read by the table's guarded reader (`platform_assets.delta_reader`): a filter loses no row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import create_table, read_commit_infos
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from platform_assets.streaming.context import StreamContext

# A replayed batch is the newest that the query has committed; only other writers' commits (upkeep) may lie above it.
MAX_COMMITS_SEARCHED = 1000
# Readers of the log list its folder with each look: 20,000 commits cost delta-rs 20 to 50 ms a time. Six hours of a
# commit a second are that many. Commits that a query of the group has not read yet are kept however old they are.
STREAM_LOG_RETENTION = "interval 6 hours"


def create_stream_table(spec: TableSpec, context: StreamContext) -> DeltaTable:
    """Opens a table of the streams or of their accounts; creates it, empty, when it is missing."""
    return create_table(context.table_uri(spec.name), spec, context.storage_options, STREAM_LOG_RETENTION)


class DeltaReader:
    """One table, made when it is missing. Its methods may be called from any thread, while another one writes."""

    def __init__(self, spec: TableSpec, context: StreamContext) -> None:
        self.uri = context.table_uri(spec.name)
        self._table = create_stream_table(spec, context)
        self._lock = threading.RLock()
        self.version = self._table.version()
        """The newest version that this object has made or seen; any thread may read it."""

    def read_arrow(self, columns: list[str] | None = None, row_filter: Any = None) -> pa.Table:
        """Rows of the newest version, by a filter over Arrow expressions."""
        with self._lock:
            self._table.update_incremental()
            dataset = self._table.to_pyarrow_dataset()
        return dataset.to_table(columns=columns, filter=row_filter)

    def read_batches(self, columns: list[str], row_filter: Any = None) -> Iterator[pa.RecordBatch]:
        """Rows of the newest version, in portions, by a filter over Arrow expressions."""
        with self._lock:
            self._table.update_incremental()
            dataset = self._table.to_pyarrow_dataset()
        return iter(dataset.to_batches(columns=columns, filter=row_filter))

    def read_snapshot(self) -> DeltaTable:
        """The table at its newest version, to be read while nobody writes it through this object."""
        with self._lock:
            self._table.update_incremental()
            return self._table

    def find_rows(
        self, columns: list[str], tested: list[str], test: Callable[[pa.RecordBatch], pa.BooleanArray]
    ) -> Iterator[pa.RecordBatch]:
        """Rows of the newest version that pass a test of some columns; a file without any is read in these only."""
        with self._lock:
            self._table.update_incremental()
            dataset = self._table.to_pyarrow_dataset()
        both = list(dict.fromkeys([*columns, *tested]))
        for file in dataset.get_fragments():
            if any(test(batch).true_count for batch in file.to_batches(columns=tested, schema=dataset.schema)):
                for batch in file.to_batches(columns=both, schema=dataset.schema):
                    yield batch.filter(test(batch)).select(columns)

    def is_empty(self) -> bool:
        """Whether the newest version has no data file."""
        with self._lock:
            self._table.update_incremental()
            return not self._table.file_uris()

    def find_least(self, column: str) -> date | None:
        """The first day of which the table may have rows, by a date or a time; None: it has none, or cannot say."""
        import pyarrow as pa

        with self._lock:
            self._table.update_incremental()
            files = pa.table(self._table.get_add_actions(flatten=True)).to_pylist()
        values = [file.get(f"partition.{column}", file.get(f"min.{column}")) for file in files]
        days = [value.date() if isinstance(value, datetime) else value for value in values if value is not None]
        return min(days, default=None)

    def committed_batch(self, txn_app_id: str) -> int | None:
        """The newest batch that was committed under this transaction name."""
        with self._lock:
            self._table.update_incremental()
            return self._table.transaction_version(txn_app_id)

    def find_commit(self, is_wanted: Callable[[CommitInfo], bool]) -> tuple[int, CommitInfo] | None:
        """The newest commit of Headrace's like that, with its version; None where the log has none any more."""
        with self._lock:
            self._table.update_incremental()
            commits = read_commit_infos(self._table, MAX_COMMITS_SEARCHED)
        return next(((version, info) for version, info in commits if is_wanted(info)), None)

    def read_last_frontier(self) -> Mapping[str, Any]:
        """What the newest commit with a frontier says of it (`Frontier.as_json`); empty where the log holds none."""
        found = self.find_commit(lambda info: info.frontier is not None)
        return {} if found is None else found[1].frontier or {}

    def read_last_batch(self) -> CommitInfo | None:
        """What the newest batch over Kafka wrote into its commit; None when the log holds no such commit."""
        found = self.find_commit(lambda info: info.ranges is not None)
        return None if found is None else found[1]
