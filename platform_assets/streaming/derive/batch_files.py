"""The rows of one micro-batch on disk, for streams whose batches may be larger than memory.

A collected batch (`toArrow`) goes through the JVM's heap task by task, so the pairs of one key, which are all of one
task, must fit into it. Here Spark's tasks keep their rows on disk as they make them. Few rows are collected from there
as any batch; many are written to Parquet files, which Python reads in portions.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platform_assets.folders import Folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.dataset import Dataset
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext

# Each task holds a group of rows before it writes it, 128 MiB by default; four of them are half of the default heap.
_BYTES_OF_ONE_GROUP = 8 * 1024 * 1024
# At most this many rows of each task are collected, 15 MiB. Files cost 0.3 s of CPU, even empty ones.
_FEW_ROWS = 100_000
# A portion of a table as wide as the pairs is some 8 MiB. Arrow reads 64 portions ahead by default.
_ROWS_OF_ONE_PORTION = 50_000


@contextmanager
def kept_on_disk(batch_df: DataFrame) -> Iterator[DataFrame]:
    """The batch, whose rows can be asked for several times in the block: Spark's tasks keep what they make on disk.

    Run a second time instead it would count twice in what Spark says of it, by which the ledger goes.
    """
    from pyspark import StorageLevel

    kept = batch_df.persist(StorageLevel.DISK_ONLY)
    try:
        yield kept
    finally:
        kept.unpersist()


def collect_few(batch_df: DataFrame) -> pa.Table | None:
    """All rows of a batch that has few, as nearly each has; None for another, which has run to its end then."""
    from pyspark.sql import functions as F

    # The number of a row within its task.
    number = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1))
    rows = batch_df.where(number < _FEW_ROWS).toArrow()
    return rows if len(rows) < _FEW_ROWS else None


@contextmanager
def write_files(batch_df: DataFrame, query: str, context: StreamContext) -> Iterator[Dataset]:
    """The batch's rows as files for the block.

    A query has one such batch at a time: what a killed run has left is removed.
    """
    import pyarrow.dataset as ds

    session = batch_df.sparkSession
    batches = Folder(f"{_find_root(session, context)}/batches/{query}", context.storage_options)
    batches.remove("")
    # Its name is its own: the tasks of a driver that was replaced may still be writing.
    folder = Folder(f"{batches.uri}/{uuid.uuid4().hex}", context.storage_options)
    try:
        (
            batch_df.write.option("parquet.block.size", _BYTES_OF_ONE_GROUP)
            # Nobody looks at the folder before the job has ended: files need not be moved twice, nor be vouched for.
            .option("mapreduce.fileoutputcommitter.algorithm.version", "2")
            .option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
            .parquet(folder.uri)
        )
        yield ds.dataset("", format="parquet", filesystem=folder.files)
    finally:
        batches.remove("")


def read_portions(files: Dataset, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows, of which a few portions are in memory at a time."""
    yield from files.to_batches(columns, batch_size=_ROWS_OF_ONE_PORTION, batch_readahead=1, fragment_readahead=1)


def _find_root(session: SparkSession, context: StreamContext) -> str:
    """The folder that both Spark's tasks and this process can read.

    On one machine it is the application's folder for temporary files, which is removed with it, or after a kill at the
    next start. Elsewhere it is the lakehouse.
    """
    conf = session.sparkContext.getConf()
    if conf.get("spark.master", "").startswith("local"):
        return conf.get("spark.local.dir", "").partition(",")[0]
    return f"{context.lakehouse_root}/_scratch"
