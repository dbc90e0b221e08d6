"""A Delta table as the micro-batches of one query write it: each batch in one commit, once.

Rows come as Arrow and are committed by delta-rs in the driver's process. Spark's own Delta writer starts a Spark job
over the table's log for every commit with a transaction: 0.4 to 0.8 s and as much CPU for a batch of a thousand rows,
where this one takes 0.02 (measured; docs/architecture.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import commit_metadata, name_transaction, read_commit_infos
from platform_assets.streaming.delta.reader import MAX_COMMITS_SEARCHED
from platform_assets.streaming.delta.retried_commits import match_rows, no_hooks
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.tables.platform import PLATFORM_TABLES

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.portion_files import NewFile
    from platform_assets.tables.spec import TableSpec


class DeltaBatchWriter(DeltaWriter):
    """A table that micro-batches write too: each batch has one commit of it, under a Delta transaction."""

    def __init__(self, spec: TableSpec, context: StreamContext) -> None:
        super().__init__(spec, context)
        self._is_shared = spec in PLATFORM_TABLES

    def append(self, rows: pa.Table, info: CommitInfo) -> bool:
        """Appends the batch's rows (the table's columns, in any order) unless the table has them from a run before.

        `info` is of a batch (`CommitInfo.of_batch`); how many rows it has is added.

        Returns whether it was this call. Raises `CheckpointMismatchError` when the table holds another batch under this
        name, `QueryFailedError` when other writers win again and again. Nothing is written then.
        """
        from deltalake import write_deltalake

        return self._commit(
            info,
            len(rows),
            lambda properties: write_deltalake(
                self._table, self._conform(rows), mode="append", commit_properties=properties,
                post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def upsert(self, rows: pa.Table, info: CommitInfo) -> None:
        """Inserts the batch's rows, or replaces those of the same key; what would not change is left alone.

        Guarantees and errors as `append`.
        """
        import pyarrow.compute as pc

        key = self._spec.key
        values = [column.name for column in self._spec.columns if column.name not in key]
        # A bound as a constant keeps the files of windows long closed out of the join.
        oldest = pc.min(rows.column(key[0])).as_py()
        matches = match_rows(f"t.{key[0]} >= timestamp '{oldest.isoformat()}'", key)
        changed = " or ".join(f"(t.{name} is distinct from s.{name})" for name in values)
        self._commit(
            info,
            len(rows),
            lambda properties: (
                self._open_rewritable().merge(
                    self._conform(rows), matches, source_alias="s", target_alias="t",
                    commit_properties=properties, post_commithook_properties=no_hooks(),
                )
                .when_matched_update_all(changed).when_not_matched_insert_all().execute()
            ),
        )  # fmt: skip

    def put_latest(self, rows: pa.Table, latest_by: Sequence[str], info: CommitInfo) -> None:
        """Inserts the batch's rows, or replaces those of the same key that are less by these columns, the first first.

        Keys of `rows` are distinct; the columns are never null. What is as great as the table's row, or greater there,
        is left alone. Guarantees and errors as `append`.
        """
        greater = " or ".join(
            "(" + " and ".join([*(f"s.{same} = t.{same}" for same in latest_by[:place]), f"s.{name} > t.{name}"]) + ")"
            for place, name in enumerate(latest_by)
        )
        self._commit(
            info,
            len(rows),
            lambda properties: (
                self._open_rewritable().merge(
                    self._conform(rows), match_rows("true", self._spec.key), source_alias="s", target_alias="t",
                    commit_properties=properties, post_commithook_properties=no_hooks(),
                )
                .when_matched_update_all(greater).when_not_matched_insert_all().execute()
            ),
        )  # fmt: skip

    def upsert_files(self, session: SparkSession, folder_uri: str, files: Sequence[NewFile], info: CommitInfo) -> None:
        """Does as `upsert` with the rows of files in another folder, by Spark's tasks. Not on S3 (`spark_merge`).

        `session` is one query's own.
        """
        from platform_assets.streaming.delta.spark_merge import RowsToMerge, merge_files

        rows = sum(file.rows for file in files)
        columns = tuple(column.name for column in self._spec.columns)
        source = RowsToMerge(tuple(f"{folder_uri}/{file.path}" for file in files), rows, self._spec.key, columns)
        metadata = commit_metadata(replace(info, rows=rows))["userMetadata"]

        def merge(_: CommitProperties) -> None:
            self._open_rewritable()
            merge_files(session, self.uri, source, metadata, _require_transaction(info))
            self._table.update_incremental()

        self._commit(info, rows, merge)

    def append_files(self, files: Sequence[NewFile], info: CommitInfo) -> bool:
        """Appends the rows of files that lie in the table's folder already. Otherwise as `append`.

        Where the table has the batch, they stay as they are, which no commit names.
        """
        from deltalake.transaction import AddAction

        adds: list[Any] = [
            AddAction(f.path, f.size_bytes, dict(f.partition), f.modified_millis, True, f.statistics) for f in files
        ]
        return self._commit(
            info,
            sum(file.rows for file in files),
            lambda properties: self._table.create_write_transaction(
                adds, "append", self._schema, self._table.metadata().partition_columns,
                commit_properties=properties, post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def overwrite(self, batches: Callable[[], Iterator[pa.RecordBatch]], rows: int, info: CommitInfo) -> None:
        """Puts these rows in the place of all, in one commit, as if the query had written them up to this batch.

        They come in portions: what is in memory does not grow with their number, `rows`. `batches` is called anew for
        each try. Otherwise as `append`.
        """
        import pyarrow as pa
        from deltalake import write_deltalake

        def conform() -> Iterator[pa.RecordBatch]:
            for batch in batches():
                yield from self._conform(pa.Table.from_batches([batch])).to_batches()

        self._commit(
            info,
            rows,
            lambda properties: write_deltalake(
                self._table, pa.RecordBatchReader.from_batches(self._schema, conform()), mode="overwrite",
                commit_properties=properties, post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def _commit(self, info: CommitInfo, rows: int, write: Callable[[CommitProperties], object]) -> bool:
        from deltalake import CommitProperties

        app, batch = _require_transaction(info)
        properties = CommitProperties(
            custom_metadata=commit_metadata(replace(info, rows=rows)),
            # A conflict comes back to us: the winner may have been this very batch, written by a driver that was
            # replaced and woke up again.
            max_commit_retries=0,
            app_transactions=[name_transaction(app, batch)],
        )

        is_new = True

        def write_once() -> None:
            nonlocal is_new
            committed = self._table.transaction_version(app)
            is_new = committed is None or committed < batch
            if is_new:
                write(properties)
            else:
                self._check_same_batch(info)

        with self._lock:
            self._try(write_once, f"Batch {batch} of query {info.query}")
            return is_new

    def _check_same_batch(self, info: CommitInfo) -> None:
        """A replay may be skipped only if the commit in the table read the very source of this batch."""
        # While this group was down another one may have committed to a shared table any number of times.
        newest = None if self._is_shared else MAX_COMMITS_SEARCHED
        for _, found in read_commit_infos(self._table, newest):
            if found.transaction == info.transaction:
                theirs = {name: found.what_was_read.get(name) for name in info.what_was_read}
                break
        else:
            if self._is_shared:  # it has cleaned the log, too; what the batch has read the query's own table says
                return
            raise CheckpointMismatchError(
                f"{self.uri} says it has batch {info.batch} of query {info.query}, but its log has no commit "
                "of it. The checkpoint is older than the table's log: restore the checkpoint that belongs to the table."
            )
        if theirs != json.loads(json.dumps(info.what_was_read)):
            raise CheckpointMismatchError(
                f"Batch {info.batch} of query {info.query} was committed to {self.uri} with {theirs}, but the "
                f"checkpoint now plans {info.what_was_read}: it was restored from a backup or changed. Nothing was "
                "written. Restore the checkpoint that belongs to the table."
            )


def _require_transaction(info: CommitInfo) -> tuple[str, int]:
    if info.transaction is None:
        raise ValueError(f"A commit of kind {info.kind} without a batch can't be written once.")
    return info.transaction
