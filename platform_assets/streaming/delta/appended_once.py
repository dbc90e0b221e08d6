"""Appends rows to a table under a Delta transaction: once, also where the answer to the commit is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.streaming.delta.delta_tables import name_transaction
from platform_assets.streaming.delta.retried_commits import no_hooks, retry_conflicts

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


def append_once(table: DeltaTable, rows: pa.Table, app: str, version: int) -> None:
    """Appends the rows in one commit, unless the table has this version of the transaction `app` already.

    The table is as new as it was when the rows were chosen. One writer at a time uses `app`. Raises `QueryFailedError`
    when other writers win again and again; nothing is written then.
    """
    from deltalake import CommitProperties, write_deltalake

    def is_there() -> bool:
        committed = table.transaction_version(app)
        return committed is not None and committed >= version

    properties = CommitProperties(app_transactions=[name_transaction(app, version)])

    def write() -> None:
        # Upkeep alone keeps the log: a clean-up behind this commit would meet another group's.
        write_deltalake(table, rows, mode="append", commit_properties=properties,
                        post_commithook_properties=no_hooks())  # fmt: skip

    if not is_there():
        retry_conflicts(table, write, is_there, f"Rows of {app} lost", table.table_uri)
