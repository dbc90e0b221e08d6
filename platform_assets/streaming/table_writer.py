"""Writes the micro-batches of a stream over a Delta table: appends, or upserts by the table's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.streaming.batch_table import BatchCommit, BatchTable
from platform_assets.streaming.checkpoints import read_planned_source, read_txn_app_id

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.specs import StreamSpec


class TableWriter:
    """`BatchWriter` of a stream whose source is a table. A batch is one commit; one without rows makes none."""

    def __init__(self, spec: StreamSpec, context: StreamContext) -> None:
        self._spec = spec
        self._table = BatchTable(spec.main_table, context)
        self._checkpoint = context.checkpoint_uri(spec.main_table.name)

    def table_versions(self) -> dict[str, int]:
        """See `BatchWriter`."""
        return {self._spec.main_table.name: self._table.version}

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`."""
        session = batch_df.sparkSession
        rows = batch_df.toArrow()
        if not len(rows):
            return
        app = read_txn_app_id(session, self._spec.name, self._checkpoint)
        source = {"source": read_planned_source(session, self._checkpoint, batch_id)}
        commit = BatchCommit(self._spec.name, app, batch_id, source)
        if self._spec.write_mode == "upsert":
            self._table.upsert(rows, commit)
        else:
            self._table.append(rows, commit)
