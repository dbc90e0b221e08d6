"""What all writers of a Delta table share: rows as its columns are, the lease, and what a lost conflict leads to.

A query and its group's upkeep and repairs may write one table at the same time: who loses against another writer looks
again, and writes on top.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platform_assets.errors import QueryFailedError
from platform_assets.int96_files import Int96Guard
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, commit_metadata
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from deltalake.table import TableMerger

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.portion_files import TableFolder

# Besides one query only upkeep commits to its table: this many losses in a row mean a second writer that never rests.
MAX_CONFLICTS = 20
_MARK = "headraceCommit"
"""The field of a commit's information that has a mark of its own."""


class RetriedCommits(DeltaReader):
    """A table that can be written. See `DeltaWriter` and `DeltaBatchWriter` for what is written."""

    def __init__(self, spec: TableSpec, context: StreamContext) -> None:
        super().__init__(spec, context)
        self._spec = spec
        self._schema = _add_unknown_columns(build_arrow_schema(spec), self._table)
        self._storage_options = context.storage_options
        self._check_lease = context.check_lease or (lambda: None)
        self._int96 = Int96Guard(context.storage_options)

    @cached_property
    def folder(self) -> TableFolder:
        """The table's folder, for those who write files into it."""
        from platform_assets.streaming.delta.portion_files import TableFolder

        return TableFolder(
            self._table.table_uri, self._schema, len(self._spec.columns),
            tuple(self._table.metadata().partition_columns),
            frozenset(self._spec.statistics_columns or self._schema.names), dict(self._storage_options or {}),
        )  # fmt: skip

    def _conform(self, rows: pa.Table) -> pa.Table:
        return self.folder.conform(rows)

    def _merge(
        self,
        what: str,
        source: pa.Table,
        matches: str,
        info: CommitInfo,
        apply: Callable[[TableMerger], TableMerger],
    ) -> None:
        """A merge of the source as `s` into the table as `t`."""
        self._commit_change(
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

    def _commit_change(self, what: str, info: CommitInfo, write: Callable[[CommitProperties], object]) -> None:
        """Makes a commit that is no batch's, while a query may write."""
        from deltalake import CommitProperties

        # An object store may lose its answer to a commit: the client asks again, and is told that somebody was first.
        mark = uuid.uuid4().hex
        metadata = {**commit_metadata(info), _MARK: mark}
        # Like a batch's: a conflict is met by looking again, for a query may have written meanwhile.
        properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
        with self._lock:
            self._table.update_incremental()
            self._try(lambda: write(properties), what, mark)

    def _try(self, write: Callable[[], object], what: str, mark: str = "") -> None:
        """Makes a commit, again and again while others are first. `mark`: what nobody else's commit has."""

        def write_as_owner() -> None:
            self._check_lease()
            write()

        before = self._table.version()
        is_there = (lambda: _has_commit(self._table, mark, before)) if mark else (lambda: False)
        retry_conflicts(self._table, write_as_owner, is_there, f"{what} lost", self.uri)
        self.version = self._table.version()


def retry_conflicts(
    table: DeltaTable, write: Callable[[], object], is_there: Callable[[], bool], what: str, place: str
) -> None:
    """Commits to a table, again and again while others are first, each time on top of what they wrote.

    `is_there`: whether the commit is there although it was refused, for an object store may lose its answer. `what`
    begins the message of the `QueryFailedError` that is raised when other writers win again and again.
    """
    from deltalake.exceptions import CommitFailedError

    for _ in range(MAX_CONFLICTS):
        try:
            write()
        except CommitFailedError:
            table.update_incremental()
            if not is_there():
                continue
        return
    raise QueryFailedError(
        f"{what} {MAX_CONFLICTS} times against other writers of {place}. "
        "Stop what else writes there; it is tried again."
    )


def _has_commit(table: DeltaTable, mark: str, since: int) -> bool:
    """Whether a version after `since` is the commit with this mark."""
    news = table.version() - since
    return news > 0 and any(commit.get(_MARK) == mark for commit in table.history(news))


def match_rows(bounds: str, names: Iterable[str]) -> str:
    """The condition of a merge: within the bounds, and equal in these columns, nulls too."""
    # In parentheses: DataFusion reads `a is not distinct from b and c` as `a is not distinct from (b and c)`.
    return " and ".join([f"({bounds})", *(f"(t.{name} is not distinct from s.{name})" for name in names)])


def no_hooks() -> Any:
    """No work after a commit of a stream's table: `table_upkeep` alone keeps its log."""
    from deltalake import PostCommitHookProperties

    # Both cost with every commit what they need cost once a minute: see `table_upkeep`.
    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def _add_unknown_columns(schema: pa.Schema, table: DeltaTable) -> pa.Schema:
    """Adds the columns that newer code has given the table: this code leaves them null."""
    import pyarrow as pa

    for column in pa.schema(table.schema().to_arrow()):
        schema = schema if column.name in schema.names else schema.append(column)
    return schema
