"""A batch that was committed is known as such after Spark has made a checkpoint of the table's log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPEC = TableSpec("gold.numbers", "Numbers", "one number", ("n",), (Column("n", "bigint", "Number"),))


def test_a_replayed_batch_is_not_written_twice_where_transactions_expire(spark: SparkSession, tmp_path: Path) -> None:
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    uri = context.table_uri(SPEC.name)
    batch, rows = CommitInfo.of_batch("q", "app", 7, source=7), pa.table({"n": [1]})
    DeltaBatchWriter(SPEC, context).append(rows, batch)
    properties = "'delta.setTransactionRetentionDuration' = 'interval 1 days', 'delta.checkpointInterval' = '1'"
    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ({properties})")
    spark.createDataFrame([(2,)], "n bigint").write.format("delta").mode("append").save(uri)
    assert list((Path(uri) / "_delta_log").glob("*.checkpoint*.parquet")), "Spark has made no checkpoint"

    table = DeltaBatchWriter(SPEC, context)
    assert table.committed_batch("app") == 7
    table.append(rows, batch)
    assert sorted(DeltaTable(uri).to_pyarrow_table()["n"].to_pylist()) == [1, 2]
