"""What Spark calls with each micro-batch: a stop between two batches is a clean end, and says so in few words."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.engine.foreach_batch import ForeachBatch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.delta.writer import DeltaWriter


class CountingWriter:
    """Counts the batches, and keeps nothing else."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.tables: Mapping[str, DeltaWriter] = {}

    def write(self, batch_df: DataFrame, batch_id: int) -> None:
        batch_df.count()
        self.first.set()


def test_a_query_is_stopped_at_the_closed_gate_and_no_stack_is_needed_for_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    writer, raised = CountingWriter(), list[str]()
    gate = ForeachBatch("rates", writer, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None))

    def watch(batch_df: DataFrame, batch_id: int) -> None:
        try:
            gate(batch_df, batch_id)
        except Exception:
            raised.append(traceback.format_exc())
            raise

    rates = spark.readStream.format("rate").option("rowsPerSecond", 100).load()
    query = rates.writeStream.option("checkpointLocation", str(tmp_path / "checkpoint")).foreachBatch(watch).start()
    try:
        assert writer.first.wait(60)
        assert gate.close(30) and gate.has_arrival.wait(60)
    finally:
        query.stop()
    assert query.exception() is None and gate.error is None
    # Spark's pattern recurses for each character after the name of the error.
    (text,) = raised
    assert len(text.rpartition("py4j.protocol.Py4JJavaError")[2]) < 200
