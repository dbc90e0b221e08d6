"""Writes a Delta table: all that is no batch's, such as repairs, accounts, erasures and marks; removes old files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import commit_metadata
from platform_assets.streaming.delta.retried_commits import RetriedCommits, match_rows, no_hooks

if TYPE_CHECKING:
    import pyarrow as pa


class DeltaWriter(RetriedCommits):
    """A table that this process writes. Its methods may be called from any thread; one writes at a time."""

    def add(self, rows: pa.Table, info: CommitInfo) -> None:
        """Appends rows of keys that the table has not, in one commit. Cheaper than `put`, which joins the table."""
        from deltalake import write_deltalake

        self._commit_change(
            "A repair", info,
            lambda properties: write_deltalake(
                self._table, self._conform(rows), mode="append", commit_properties=properties,
                post_commithook_properties=no_hooks(),
            ),
        )  # fmt: skip

    def put(self, rows: pa.Table, bounds: str, info: CommitInfo) -> None:
        """Inserts rows, or puts them in the place of those of the same key, in one commit.

        Keys of `rows` are distinct; `bounds` is a condition on the table's rows (as `t`) that holds for all that are
        meant, by which files are left out. Raises `QueryFailedError` when other writers win again and again; nothing is
        written then.
        """
        names = {name: f"s.{name}" for name in self._schema.names}
        self._merge(
            "A repair", self._conform(rows), match_rows(bounds, self._spec.key), info,
            lambda merger: merger.when_matched_update(names).when_not_matched_insert(names),
        )  # fmt: skip

    def replace(self, rows: pa.Table, stale: pa.Table, bounds: str, info: CommitInfo) -> None:
        """Puts rows as `put` does, and takes out `stale` (rows of the table) in the same commit.

        Keys of `rows` and `stale` are distinct; `bounds` and errors as `put`.
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
        `put`.
        """
        import pyarrow as pa

        names = rows.column_names
        source = rows.cast(pa.schema([self._schema.field(name) for name in names])).group_by(names).aggregate([])
        self._merge("An erasure", source, match_rows(bounds, names), info, lambda merger: merger.when_matched_delete())

    def delete(self, condition: str, info: CommitInfo) -> None:
        """Takes out the rows for which an SQL condition holds, in one commit; none where there are no such rows.

        Raises `QueryFailedError` when other writers win again and again; nothing is taken out then.
        """
        self._commit_change(
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
