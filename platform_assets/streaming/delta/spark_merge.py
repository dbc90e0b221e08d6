"""A merge into a Delta table by Spark's tasks, for rows that are too many for one process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.errors import QueryFailedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CONF = "spark.databricks.delta"
# Spark takes a path for a pattern.
_PATTERN = re.compile(r"[{}\[\]*?]")


@dataclass(frozen=True)
class RowsToMerge:
    """Parquet files with `count` rows of a table in them; `columns` are those that this code knows.

    No two rows have the same key, whose first column is a time.
    """

    paths: tuple[str, ...]
    count: int
    key: tuple[str, ...]
    columns: tuple[str, ...]


def merge_files(
    session: SparkSession, table_uri: str, source: RowsToMerge, metadata: str, txn: tuple[str, int]
) -> None:
    """Inserts the rows, or replaces those of the same key; what would not change is left alone.

    One commit, with the metadata and the transaction. The first column of the key bounds what of the table is read. The
    session is one query's own. Raises deltalake's `CommitFailedError` when another writer was first, `QueryFailedError`
    where the files have not as many rows as they should; nothing is written then. Not on S3, where Delta's Spark writer
    knows no conditional put.
    """
    from delta.tables import DeltaTable
    from pyspark.sql import functions as F

    # These files and no others of their folder, which a task that was started twice has written.
    rows = session.read.parquet(*(_PATTERN.sub(r"\\\g<0>", path) for path in source.paths))
    first = source.key[0]
    # As a number: a moment goes through the local time of this machine, which has one hour twice a year.
    found = rows.agg(F.min(F.unix_micros(first)), F.count(F.lit(1))).first()
    if found is None or found[1] != source.count:
        raise QueryFailedError(f"Files of rows for {table_uri} are gone: the batch is made once more.")
    matches = F.col(f"t.{first}") >= F.timestamp_micros(F.lit(found[0]))
    for name in source.key:
        matches = matches & F.col(f"t.{name}").eqNullSafe(F.col(f"s.{name}"))
    changed = F.lit(False)
    for name in source.columns:
        if name not in source.key:
            changed = changed | ~F.col(f"t.{name}").eqNullSafe(F.col(f"s.{name}"))
    merge = DeltaTable.forPath(session, table_uri).alias("t").merge(rows.alias("s"), matches)
    merge = merge.whenMatchedUpdateAll(changed).whenNotMatchedInsertAll()
    with _committing(session, metadata, txn), _conflicts():
        merge.execute()


@contextmanager
def _committing(session: SparkSession, metadata: str, txn: tuple[str, int]) -> Iterator[None]:
    values = {
        f"{_CONF}.commitInfo.userMetadata": metadata,
        f"{_CONF}.write.txnAppId": txn[0],
        f"{_CONF}.write.txnVersion": str(txn[1]),
    }
    for name, value in values.items():
        session.conf.set(name, value)
    try:
        yield
    finally:
        for name in values:
            session.conf.unset(name)


@contextmanager
def _conflicts() -> Iterator[None]:
    """What Delta's Spark writer calls a conflict, as delta-rs calls it: the table's writers know one word for it."""
    from delta import exceptions
    from deltalake.exceptions import CommitFailedError

    conflicts = (
        exceptions.DeltaConcurrentModificationException, exceptions.ConcurrentWriteException,
        exceptions.ConcurrentAppendException, exceptions.ConcurrentDeleteReadException,
        exceptions.ConcurrentDeleteDeleteException, exceptions.ConcurrentTransactionException,
        exceptions.MetadataChangedException, exceptions.ProtocolChangedException,
    )  # fmt: skip
    try:
        yield
    except conflicts as error:
        raise CommitFailedError(str(error)) from error
