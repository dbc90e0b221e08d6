"""A folder for rows of one batch that are to be merged into a table, for as long as that takes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.folders import Folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.delta.portion_files import TableFolder


@contextmanager
def open_scratch(
    table: TableFolder, query: str, session: SparkSession, context: StreamContext
) -> Iterator[TableFolder]:
    """A folder like the table's, without partitions and statistics, which is removed after the block.

    Spark's tasks and this process can both write there. A query has one batch at a time: what a killed run has left is
    removed.
    """
    batches = Folder(f"{_find_root(session, context)}/batches/{query}", context.storage_options)
    # Its name is its own: the tasks of a driver that was replaced may still be writing.
    folder = replace(table, uri=f"{batches.uri}/{uuid.uuid4().hex}", partition_by=(), counted=frozenset())
    try:
        yield folder
    finally:
        batches.remove("")


def _find_root(session: SparkSession, context: StreamContext) -> str:
    """The folder that both Spark's tasks and this process can read.

    On one machine it is the application's folder for temporary files, which is removed with it, or after a kill at the
    next start. Elsewhere it is the lakehouse.
    """
    conf = session.sparkContext.getConf()
    if conf.get("spark.master", "").startswith("local"):
        return conf.get("spark.local.dir", "").partition(",")[0]
    return f"{context.lakehouse_root}/_scratch"
