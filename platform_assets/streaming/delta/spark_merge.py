"""A merge into a Delta table by Spark's tasks, for rows that are too many for one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CONF = "spark.databricks.delta"


def merge_files(
    session: SparkSession, table_uri: str, files_uri: str, key: Sequence[str], metadata: str, txn: tuple[str, int]
) -> None:
    """Inserts the rows of Parquet files, or replaces those of the same key; what would not change is left alone.

    One commit, with the metadata and the transaction. `key[0]` is a time, and bounds what of the table is read. The
    session is one query's own. Raises deltalake's `CommitFailedError` when another writer was first; nothing is written
    then. Not on S3, where Delta's Spark writer knows no conditional put.
    """
    from delta.tables import DeltaTable
    from pyspark.sql import functions as F

    # The place is a folder, and no pattern, whatever characters it has.
    rows = session.read.option("__globPaths__", "false").parquet(files_uri)
    oldest = rows.agg(F.min(key[0])).first()
    assert oldest is not None
    is_same = (F.col(f"t.{name}").eqNullSafe(F.col(f"s.{name}")) for name in key)
    matches = F.col(f"t.{key[0]}") >= F.lit(oldest[0])
    for condition in is_same:
        matches = matches & condition
    values = [name for name in rows.columns if name not in key]
    changed = F.lit(False)
    for name in values:
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
