"""A folder for rows of one batch that are to be merged into a table, for as long as that takes."""

from __future__ import annotations

import time
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

# As unnamed files of a table: no batch takes so long.
_KEPT_SECONDS = 7 * 24 * 3600.0


@contextmanager
def open_scratch(
    table: TableFolder, query: str, session: SparkSession, context: StreamContext
) -> Iterator[TableFolder]:
    """A folder like the table's, without partitions and statistics, which is removed after the block.

    Spark's tasks and this process can both write there. What a killed run has left is removed after a week.
    """
    batches = Folder(f"{_find_root(session, context)}/batches/{query}", context.storage_options)
    # Its name is its own, and no other folder is touched: a driver that was replaced may wake up, and a replay of the
    # same stream runs at the same time.
    name = uuid.uuid4().hex
    try:
        yield replace(table, uri=f"{batches.uri}/{name}", partition_by=(), counted=frozenset())
    finally:
        batches.remove(name)


def remove_old_scratch(query: str, session: SparkSession, context: StreamContext) -> None:
    """Removes what killed runs have left of a query's batches. Called at each start of the query."""
    from pyarrow.fs import FileSelector

    batches = Folder(f"{_find_root(session, context)}/batches/{query}", context.storage_options)
    until = time.time() - _KEPT_SECONDS
    for file in batches.files.get_file_info(FileSelector("", recursive=True, allow_not_found=True)):
        if file.is_file and file.mtime is not None and file.mtime.timestamp() < until:
            batches.remove(file.path)


def _find_root(session: SparkSession, context: StreamContext) -> str:
    """The folder that both Spark's tasks and this process can read.

    On one machine it is the application's folder for temporary files, which is removed with it, or after a kill at the
    next start. Elsewhere it is the lakehouse.
    """
    conf = session.sparkContext.getConf()
    if conf.get("spark.master", "").startswith("local"):
        return conf.get("spark.local.dir", "").partition(",")[0]
    return f"{context.lakehouse_root}/_scratch"
