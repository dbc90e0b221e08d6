"""Writes the micro-batches of a stream over a Delta table: appends, or upserts by the table's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError
from platform_assets.streaming.batch_gate import BatchGate
from platform_assets.streaming.batch_ledger import build_commit_metadata
from platform_assets.streaming.checkpoints import PlannedBatch, read_generation
from platform_assets.streaming.delta_tables import read_transaction_version

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.specs import StreamSpec

TXN_APP_ID = "spark.databricks.delta.write.txnAppId"
TXN_VERSION = "spark.databricks.delta.write.txnVersion"
USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


class TableWriter:
    """`BatchWriter` of a stream whose source is a table. One instance a query.

    A batch is one commit with the query's transaction, so that a replay changes nothing.
    """

    def __init__(self, spec: StreamSpec, context: StreamContext) -> None:
        self.error: HeadraceError | None = None
        self.gate = BatchGate()
        self._spec = spec
        self._uri = context.table_uri(spec.main_table.name)
        self._checkpoint = context.checkpoint_uri(spec.main_table.name)

    def __call__(self, batch_df: DataFrame, batch_id: int) -> None:
        """See `BatchWriter`."""
        try:
            with self.gate.admit(batch_df.sparkSession):
                self._write(batch_df, batch_id)
        except HeadraceError as error:
            self.error = error
            raise

    def _write(self, batch_df: DataFrame, batch_id: int) -> None:
        session = batch_df.sparkSession
        app = f"headrace/{self._spec.name}/{read_generation(session, self._checkpoint)}"
        if read_transaction_version(session, self._uri, app) >= batch_id:
            return
        metadata = build_commit_metadata(self._spec.name, app, PlannedBatch(batch_id, 0, ()), None)
        if self._spec.write_mode == "append":
            batch_df.write.format("delta").mode("append").options(
                txnAppId=app, txnVersion=str(batch_id), userMetadata=metadata
            ).save(self._uri)
            return
        rows = batch_df.persist()
        try:
            if not rows.isEmpty():
                self._upsert(session, rows, {TXN_APP_ID: app, TXN_VERSION: str(batch_id), USER_METADATA: metadata})
        finally:
            rows.unpersist()

    def _upsert(self, session: SparkSession, rows: DataFrame, options: dict[str, str]) -> None:
        """One MERGE by the table's key; rows that would not change are left alone."""
        from delta.tables import DeltaTable
        from pyspark.sql import functions as F

        table = self._spec.main_table
        values = [column.name for column in table.columns if column.name not in table.key]
        same_key = " and ".join(f"t.{name} <=> s.{name}" for name in table.key)
        changed = " or ".join(f"not (t.{name} <=> s.{name})" for name in values)
        # The oldest key of the batch as a constant lets Delta skip the files of windows long closed.
        oldest = rows.agg(F.unix_micros(F.min(table.key[0]))).first()
        assert oldest is not None
        recent = f"t.{table.key[0]} >= timestamp_micros({oldest[0]})"
        # Delta reads these of the session (MERGE has no such options): it is the query's own, nobody else's.
        for name, value in options.items():
            session.conf.set(name, value)
        try:
            (
                DeltaTable.forPath(session, self._uri).alias("t")
                .merge(rows.coalesce(1).alias("s"), f"{recent} and {same_key}")
                .whenMatchedUpdateAll(changed)
                .whenNotMatchedInsertAll()
                .execute()
            )  # fmt: skip
        finally:
            for name in options:
                session.conf.unset(name)
