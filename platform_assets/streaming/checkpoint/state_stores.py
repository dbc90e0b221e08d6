"""Spark's stores of state in this process, which go on writing into checkpoints after their queries have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_STATE_STORE = "org.apache.spark.sql.execution.streaming.state.StateStore$"


def unload_state_stores(session: SparkSession) -> None:
    """Closes each store of this process, and waits for the upload of a snapshot that is under way.

    Called before the files of a checkpoint are moved or removed, on any thread, while no query runs. Afterwards nothing
    of this process writes into a checkpoint until a query is started, which loads its stores anew.
    """
    stores = getattr(getattr(session._jvm, _STATE_STORE), "MODULE$")
    # By itself, `stop` waits for the uploads with the lock that they take at their end: five minutes, for nothing.
    stores.stopMaintenanceTaskWithoutLock()
    stores.stop()
