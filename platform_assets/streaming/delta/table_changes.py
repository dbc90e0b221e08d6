"""Commits of a table that are no batch's: repairs, erasures, deletions, marks, and what upkeep removes.

They are made beside a query that may write the same table: who loses against another writer looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from platform_assets.errors import QueryFailedError
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import commit_metadata
from platform_assets.streaming.delta.table_reads import TableReads

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from deltalake.table import TableMerger

# Beside one query only upkeep commits to its table: so many losses in a row are a second writer that never rests.
MAX_CONFLICTS = 20


class TableChanges(TableReads):
    """A table that is changed from one thread at a time."""

    def add(self, rows: pa.Table, info: CommitInfo) -> None:
        """Appends rows of keys that the table has not, in one commit: as `replace`, which joins the table with them."""
        from deltalake import write_deltalake

        self._write_beside(
            "A repair", info,
            lambda properties: write_deltalake(
                self._table, self._conform(rows), mode="append", commit_properties=properties,
                post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def replace(self, rows: pa.Table, stale: pa.Table, bounds: str, info: CommitInfo) -> None:
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
            "A repair", pa.concat_tables(parts), match_rows(bounds, self._spec.key), info,
            lambda merger: (
                merger.when_matched_delete("s.is_stale").when_matched_update(names, "not s.is_stale")
                .when_not_matched_insert(names, "not s.is_stale")
            ),
        )  # fmt: skip

    def erase(self, rows: pa.Table, bounds: str, info: CommitInfo) -> None:
        """Takes out the rows that have the values of one of these in all of these columns, in one commit.

        The commit does not say whose they were, as `delete` does: a log outlives the rows. `bounds` and errors as
        `replace`.
        """
        import pyarrow as pa

        names = rows.column_names
        source = rows.cast(pa.schema([self._schema.field(name) for name in names])).group_by(names).aggregate([])
        self._merge("An erasure", source, match_rows(bounds, names), info, lambda merger: merger.when_matched_delete())

    def delete(self, condition: str, info: CommitInfo) -> None:
        """Takes out the rows for which an SQL condition holds, in one commit; none where there are no such rows.

        Raises `QueryFailedError` when other writers win again and again; nothing is taken out then.
        """
        self._write_beside(
            "A deletion", info,
            lambda properties: self._open_rewritable().delete(
                condition, commit_properties=properties, post_commithook_properties=no_hooks()
            ),
        )  # fmt: skip

    def restore(self, version: int, info: CommitInfo) -> None:
        """Puts back the rows of an earlier version, in one commit; what a query has committed since stays on record.

        Raises deltalake's `DeltaError` when files of that version have been removed.
        """
        from deltalake import CommitProperties

        with self._lock:
            self._table.update_incremental()
            self._check_lease()
            self._table.restore(version, commit_properties=CommitProperties(custom_metadata=commit_metadata(info)))
            self.version = self._table.version()

    def mark(self, info: CommitInfo) -> None:
        """A commit without rows that says something; lost if others win again and again, for it says it again."""
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        with self._lock:
            self._table.update_incremental()
            self._check_lease()
            try:
                write_deltalake(
                    self._table, self._schema.empty_table(), mode="append", post_commithook_properties=no_hooks(),
                    commit_properties=CommitProperties(custom_metadata=commit_metadata(info), max_commit_retries=0),
                )  # fmt: skip
            except CommitFailedError:
                self._table.update_incremental()
                return
            self.version = self._table.version()

    def vacuum(self, *, full: bool, hours: int) -> None:
        """Removes the files that no version of the last `hours` names; `full`: those too that no version ever named.

        Nobody may be reading an older version; with `full` nobody writing either.
        """
        with self._lock:
            self._table.update_incremental()
            self._table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)
            self._table.update_incremental()
            self.version = self._table.version()

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
        info: CommitInfo,
        apply: Callable[[TableMerger], TableMerger],
    ) -> None:
        """A merge of the source as `s` into the table as `t`."""
        self._write_beside(
            what, info,
            lambda properties: apply(
                self._open_rewritable().merge(
                    source, matches, source_alias="s", target_alias="t", commit_properties=properties,
                    post_commithook_properties=no_hooks(),
                )
            ).execute(),
        )  # fmt: skip

    def _open_rewritable(self) -> DeltaTable:
        """The table, for what rewrites files. Raises `TableSchemaError` where that would change somebody's dates."""
        self._int96.check(self._table)
        return self._table

    def _write_beside(self, what: str, info: CommitInfo, write: Callable[[CommitProperties], object]) -> None:
        """A commit that is no batch's, beside a query that may write."""
        from deltalake import CommitProperties

        # Like a batch's: a conflict is met by looking again, for a query may have written meanwhile.
        properties = CommitProperties(custom_metadata=commit_metadata(info), max_commit_retries=0)
        with self._lock:
            self._table.update_incremental()
            self._try(lambda: write(properties), what)

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


def match_rows(bounds: str, names: Iterable[str]) -> str:
    """The condition of a merge: within the bounds, and equal in these columns, nulls too."""
    # In parentheses: DataFusion reads `a is not distinct from b and c` as `a is not distinct from (b and c)`.
    return " and ".join([f"({bounds})", *(f"(t.{name} is not distinct from s.{name})" for name in names)])


def no_hooks() -> Any:
    """For a commit of a stream's table: its log is kept by `table_upkeep` alone."""
    from deltalake import PostCommitHookProperties

    # Both cost with every commit what they need cost once a minute: see `table_upkeep`.
    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
