"""A Delta table as the micro-batches of one query write it: each batch in one commit, once.

Rows come as Arrow and are committed by delta-rs in the driver's process. Spark's own Delta writer starts a Spark job
over the table's log for every commit with a transaction: 0.4 to 0.8 s and as much CPU for a batch of a thousand rows,
where this one takes 0.02 (measured; docs/architecture.md).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from platform_assets.errors import CheckpointMismatchError, QueryFailedError
from platform_assets.streaming.delta_tables import (
    build_arrow_schema,
    commit_metadata,
    create_table,
    name_transaction,
    read_batch_commits,
)
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from deltalake.table import TableMerger

    from platform_assets.streaming.context import StreamContext

# Beside one query only upkeep commits to its table: so many losses in a row are a second writer that never rests.
MAX_CONFLICTS = 20
# A replayed batch is the newest that the query has committed; only other writers' commits (upkeep) may lie above it.
MAX_COMMITS_SEARCHED = 1000
# Readers of the log list its folder with each look: 20,000 commits cost delta-rs 20 to 50 ms a time. Six hours of a
# commit a second are that many. Commits that a query of the group has not read yet are kept however old they are.
STREAM_LOG_RETENTION = "interval 6 hours"


@dataclass(frozen=True)
class BatchCommit:
    """Which batch a commit is.

    `source` says what the batch read, as its checkpoint recorded it before it ran: the same on every replay. `account`
    are further facts for the ledger.
    """

    query: str
    txn_app_id: str
    batch_id: int
    source: Mapping[str, Any]
    account: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """What the commit says about itself."""
        return {"query": self.query, "app": self.txn_app_id, "batch": self.batch_id, **self.source, **self.account}


class BatchTable:
    """One table of one query. Its methods may be called from any thread; one writes at a time."""

    def __init__(self, spec: TableSpec, context: StreamContext) -> None:
        self.uri = context.table_uri(spec.name)
        self._check_lease = context.check_lease or (lambda: None)
        self._spec = spec
        self._table = create_table(self.uri, spec, context.storage_options, STREAM_LOG_RETENTION)
        self._schema = _add_unknown_columns(build_arrow_schema(spec), self._table)
        self._lock = threading.RLock()
        self.version = self._table.version()
        """The newest version that this object has made or seen; any thread may read it."""

    def append(self, rows: pa.Table, commit: BatchCommit) -> None:
        """Appends the batch's rows (the table's columns, in any order) unless the table has them from a run before.

        Raises `CheckpointMismatchError` when the table holds another batch under this name, `QueryFailedError` when
        other writers win again and again. Nothing is written then.
        """
        from deltalake import write_deltalake

        self._commit(
            commit,
            len(rows),
            lambda properties: write_deltalake(
                self._table, self._conform(rows), mode="append", commit_properties=properties,
                post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def upsert(self, rows: pa.Table, commit: BatchCommit) -> None:
        """Inserts the batch's rows, or replaces those of the same key; what would not change is left alone.

        Guarantees and errors as `append`.
        """
        import pyarrow.compute as pc

        key = self._spec.key
        values = [column.name for column in self._spec.columns if column.name not in key]
        # A bound as a constant keeps the files of windows long closed out of the join.
        oldest = pc.min(rows.column(key[0])).as_py()
        matches = _match(f"t.{key[0]} >= timestamp '{oldest.isoformat()}'", key)
        changed = " or ".join(f"(t.{name} is distinct from s.{name})" for name in values)
        self._commit(
            commit,
            len(rows),
            lambda properties: (
                self._table.merge(
                    self._conform(rows), matches, source_alias="s", target_alias="t",
                    commit_properties=properties, post_commithook_properties=no_hooks(),
                )
                .when_matched_update_all(changed).when_not_matched_insert_all().execute()
            ),
        )  # fmt: skip

    def append_batches(self, batches: Callable[[], Iterator[pa.RecordBatch]], rows: int, commit: BatchCommit) -> None:
        """As `append`, of so many rows that come in portions: what is in memory does not grow with their number.

        `batches` is called anew for each try.
        """
        self._write_batches("append", batches, rows, commit)

    def overwrite(self, batches: Callable[[], Iterator[pa.RecordBatch]], rows: int, commit: BatchCommit) -> None:
        """Puts these rows in the place of all, in one commit, as if the query had written them up to this batch.

        As `append_batches`.
        """
        self._write_batches("overwrite", batches, rows, commit)

    def restore(self, version: int, body: Mapping[str, Any]) -> None:
        """Puts back the rows of an earlier version, in one commit; what a query has committed since stays on record.

        Raises deltalake's `DeltaError` when files of that version have been removed.
        """
        from deltalake import CommitProperties

        with self._lock:
            self._table.update_incremental()
            self._check_lease()
            self._table.restore(version, commit_properties=CommitProperties(custom_metadata=commit_metadata(body)))
            self.version = self._table.version()

    def mark(self, body: Mapping[str, Any]) -> None:
        """A commit without rows that says something; lost if others win again and again, for it says it again."""
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        with self._lock:
            self._table.update_incremental()
            self._check_lease()
            try:
                write_deltalake(
                    self._table, self._schema.empty_table(), mode="append", post_commithook_properties=no_hooks(),
                    commit_properties=CommitProperties(custom_metadata=commit_metadata(body), max_commit_retries=0),
                )  # fmt: skip
            except CommitFailedError:
                self._table.update_incremental()
                return
            self.version = self._table.version()

    def add(self, rows: pa.Table, body: Mapping[str, Any]) -> None:
        """Appends rows of keys that the table has not, in one commit: as `replace`, which joins the table with them."""
        from deltalake import write_deltalake

        self._write_beside(
            "A repair", body,
            lambda properties: write_deltalake(
                self._table, self._conform(rows), mode="append", commit_properties=properties,
                post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def replace(self, rows: pa.Table, stale: pa.Table, bounds: str, body: Mapping[str, Any]) -> None:
        """Puts `rows` in the place of those of the same key and takes out `stale` (rows of the table), in one commit.

        For what no batch of the query writes: repairs. Keys of `rows` and `stale` are distinct; `bounds` is a condition
        on the table's rows (as `t`) that holds for all that are meant, by which files are left out. Raises
        `QueryFailedError` when other writers win again and again; nothing is written then.
        """
        import pyarrow as pa

        parts = [
            self._conform(part).append_column("is_stale", pa.repeat(pa.scalar(is_stale), len(part)))
            for part, is_stale in ((rows, False), (stale, True))
        ]
        names = {name: f"s.{name}" for name in self._schema.names}
        self._merge(
            "A repair", pa.concat_tables(parts), _match(bounds, self._spec.key), body,
            lambda merger: (
                merger.when_matched_delete("s.is_stale").when_matched_update(names, "not s.is_stale")
                .when_not_matched_insert(names, "not s.is_stale")
            ),
        )  # fmt: skip

    def erase(self, rows: pa.Table, bounds: str, body: Mapping[str, Any]) -> None:
        """Takes out the rows that have the values of one of these in all of these columns, in one commit.

        The commit does not say whose they were, as `delete` does: a log outlives the rows. `bounds` and errors as
        `replace`.
        """
        import pyarrow as pa

        names = rows.column_names
        source = rows.cast(pa.schema([self._schema.field(name) for name in names])).group_by(names).aggregate([])
        self._merge("An erasure", source, _match(bounds, names), body, lambda merger: merger.when_matched_delete())

    def vacuum(self, *, full: bool, hours: int) -> None:
        """Removes the files that no version of the last `hours` names; `full`: those too that no version ever named.

        Nobody may be reading an older version; with `full` nobody writing either.
        """
        with self._lock:
            self._table.update_incremental()
            self._table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)
            self._table.update_incremental()
            self.version = self._table.version()

    def find_commit(self, name: str, value: str) -> dict[str, Any] | None:
        """The newest commit that says so of itself, with its `version`; None where the log has none any more."""
        return next((commit for commit in self._read_commits() if commit.get(name) == value), None)

    def read_last_frontier(self) -> dict[str, Any] | None:
        """What the newest commit that moved the frontier says of itself; None where the log holds none."""
        return next((commit for commit in self._read_commits() if "frontier" in commit), None)

    def read_last_batch(self) -> dict[str, Any] | None:
        """What the newest batch over Kafka wrote into its commit; None when the log holds no such commit."""
        return next((commit for commit in self._read_commits() if commit.get("ranges") is not None), None)

    def committed_batch(self, txn_app_id: str) -> int | None:
        """The newest batch that was committed under this transaction name."""
        with self._lock:
            self._table.update_incremental()
            return self._table.transaction_version(txn_app_id)

    def is_empty(self) -> bool:
        """Whether the newest version has no data file."""
        with self._lock:
            self._table.update_incremental()
            return not self._table.file_uris()

    def delete(self, condition: str, body: Mapping[str, Any]) -> None:
        """Takes out the rows for which an SQL condition holds, in one commit; none where there are no such rows.

        Raises `QueryFailedError` when other writers win again and again; nothing is taken out then.
        """
        self._write_beside(
            "A deletion", body,
            lambda properties: self._table.delete(
                condition, commit_properties=properties, post_commithook_properties=no_hooks()
            ),
        )  # fmt: skip

    def find_least(self, column: str) -> date | None:
        """The first day of which the table may have rows, by a date or a time; None: it has none, or cannot say."""
        import pyarrow as pa

        with self._lock:
            self._table.update_incremental()
            files = pa.table(self._table.get_add_actions(flatten=True)).to_pylist()
        values = [file.get(f"partition.{column}", file.get(f"min.{column}")) for file in files]
        days = [value.date() if isinstance(value, datetime) else value for value in values if value is not None]
        return min(days, default=None)

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

    def _read_commits(self) -> list[dict[str, Any]]:
        with self._lock:
            self._table.update_incremental()
            return read_batch_commits(self._table, MAX_COMMITS_SEARCHED)

    def _conform(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        for name in self._schema.names[len(self._spec.columns) :]:
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.nulls(len(rows)))
        return rows.select(self._schema.names).cast(self._schema)

    def _merge(
        self,
        what: str,
        source: pa.Table,
        matches: str,
        body: Mapping[str, Any],
        apply: Callable[[TableMerger], TableMerger],
    ) -> None:
        """A merge of the source as `s` into the table as `t`."""
        self._write_beside(
            what, body,
            lambda properties: apply(
                self._table.merge(
                    source, matches, source_alias="s", target_alias="t", commit_properties=properties,
                    post_commithook_properties=no_hooks(),
                )
            ).execute(),
        )  # fmt: skip

    def _write_beside(self, what: str, body: Mapping[str, Any], write: Callable[[CommitProperties], object]) -> None:
        """A commit that is no batch's, beside a query that may write."""
        from deltalake import CommitProperties

        # Like a batch's: a conflict is met by looking again, for a query may have written meanwhile.
        properties = CommitProperties(custom_metadata=commit_metadata(body), max_commit_retries=0)
        with self._lock:
            self._table.update_incremental()
            self._try(lambda: write(properties), what)

    def _write_batches(
        self,
        mode: Literal["append", "overwrite"],
        batches: Callable[[], Iterator[pa.RecordBatch]],
        rows: int,
        commit: BatchCommit,
    ) -> None:
        import pyarrow as pa
        from deltalake import write_deltalake

        def conform() -> Iterator[pa.RecordBatch]:
            for batch in batches():
                yield from self._conform(pa.Table.from_batches([batch])).to_batches()

        self._commit(
            commit,
            rows,
            lambda properties: write_deltalake(
                self._table, pa.RecordBatchReader.from_batches(self._schema, conform()), mode=mode,
                commit_properties=properties, post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def _commit(self, commit: BatchCommit, rows: int, write: Callable[[CommitProperties], object]) -> None:
        from deltalake import CommitProperties

        properties = CommitProperties(
            custom_metadata=commit_metadata({**commit.body(), "rows": rows}),
            # A conflict comes back to us: the winner may have been this very batch, written by a driver that was
            # replaced and woke up again.
            max_commit_retries=0,
            app_transactions=[name_transaction(commit.txn_app_id, commit.batch_id)],
        )

        def write_once() -> None:
            committed = self._table.transaction_version(commit.txn_app_id)
            if committed is not None and committed >= commit.batch_id:
                self._check_same_batch(commit)
            else:
                write(properties)

        with self._lock:
            self._try(write_once, f"Batch {commit.batch_id} of query {commit.query}")

    def _try(self, write: Callable[[], object], what: str) -> None:
        from deltalake.exceptions import CommitFailedError

        for _ in range(MAX_CONFLICTS):
            self._check_lease()
            try:
                write()
            except CommitFailedError:
                self._table.update_incremental()
                continue
            self.version = self._table.version()
            return
        raise QueryFailedError(
            f"{what} lost {MAX_CONFLICTS} times against other writers of {self.uri}. "
            "Stop what else writes there; it is tried again."
        )

    def _check_same_batch(self, commit: BatchCommit) -> None:
        """A replay may be skipped only if the commit in the table read the very source of this batch."""
        for found in read_batch_commits(self._table, MAX_COMMITS_SEARCHED):
            if (found.get("app"), found.get("batch")) == (commit.txn_app_id, commit.batch_id):
                theirs = {name: found.get(name) for name in commit.source}
                break
        else:
            raise CheckpointMismatchError(
                f"{self.uri} says it has batch {commit.batch_id} of query {commit.query}, but its log has no commit "
                "of it. The checkpoint is older than the table's log: restore the checkpoint that belongs to the table."
            )
        if theirs != json.loads(json.dumps(commit.source)):
            raise CheckpointMismatchError(
                f"Batch {commit.batch_id} of query {commit.query} was committed to {self.uri} with {theirs}, but the "
                f"checkpoint now plans {dict(commit.source)}: it was restored from a backup or changed. Nothing was "
                "written. Restore the checkpoint that belongs to the table."
            )


def _add_unknown_columns(schema: pa.Schema, table: DeltaTable) -> pa.Schema:
    """With the columns that newer code has given the table: this code leaves them null."""
    import pyarrow as pa

    for column in pa.schema(table.schema().to_arrow()):
        schema = schema if column.name in schema.names else schema.append(column)
    return schema


def _match(bounds: str, names: Iterable[str]) -> str:
    """The condition of a merge: within the bounds, and equal in these columns, nulls too."""
    # In parentheses: DataFusion reads `a is not distinct from b and c` as `a is not distinct from (b and c)`.
    return " and ".join([f"({bounds})", *(f"(t.{name} is not distinct from s.{name})" for name in names)])


def no_hooks() -> Any:
    """For a commit of a stream's table: its log is kept by `table_upkeep` alone."""
    from deltalake import PostCommitHookProperties

    # Both cost with every commit what they need cost once a minute: see `table_upkeep`.
    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
