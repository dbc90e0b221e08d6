"""Creates the public Delta tables and asks them what they have committed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.hadoop_files import read_text
from platform_assets.streaming.specs import TableSpec

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject
    from pyspark.sql import SparkSession

# The ledger rides in the commits: they must outlive a long stop of its projection into platform.ledger.
LOG_RETENTION = "interval 30 days"
# How far back a replayed batch's commit is searched: only batches since the checkpoint's last commit can be replayed,
# other writers' commits (upkeep) may lie between.
MAX_COMMITS_SEARCHED = 1000


def create_table(session: SparkSession, uri: str, spec: TableSpec) -> None:
    """Creates the table, empty, when it does not exist. Readable by independent clients: protocol 1/2 only."""
    from delta.tables import DeltaTable

    builder = DeltaTable.createIfNotExists(session).location(uri).comment(spec.description)
    for column in spec.columns:
        builder = builder.addColumn(column.name, column.type, nullable=column.nullable, comment=column.description)
    if spec.partition_columns:
        builder = builder.partitionedBy(*spec.partition_columns)
    properties = {
        "delta.enableDeletionVectors": "false",
        "delta.logRetentionDuration": LOG_RETENTION,
        "delta.minReaderVersion": "1",
        "delta.minWriterVersion": "2",
    }
    if spec.statistics_columns:
        properties["delta.dataSkippingStatsColumns"] = ",".join(spec.statistics_columns)
    for name, value in properties.items():
        builder = builder.property(name, value)
    builder.execute()


def read_version(session: SparkSession, uri: str) -> int:
    """The table's newest version."""
    return int(_snapshot(session, uri).version())


def read_transaction_version(session: SparkSession, uri: str, txn_app_id: str) -> int:
    """The newest batch that the application has committed to the table (Delta's `txn` action), -1 when none."""
    transactions = _snapshot(session, uri).transactions()
    return int(transactions.apply(txn_app_id)) if transactions.contains(txn_app_id) else -1


def find_commit_metadata(session: SparkSession, uri: str, txn_app_id: str, batch_id: int) -> dict[str, Any] | None:
    """Our metadata in the commit of one batch, searched from the newest version back; None when it is not there."""
    newest = read_version(session, uri)
    for version in range(newest, max(-1, newest - MAX_COMMITS_SEARCHED), -1):
        found = read_commit_metadata(session, uri, version)
        if found is not None and (found["app"], found["batch"]) == (txn_app_id, batch_id):
            return found
    return None


def read_commit_metadata(session: SparkSession, uri: str, version: int) -> dict[str, Any] | None:
    """What Headrace wrote into one version's commit, or None when the commit is not a stream's or is gone."""
    text = read_text(session, f"{uri}/_delta_log/{version:020}.json")
    for line in (text or "").splitlines():
        action = json.loads(line)
        if "commitInfo" in action:
            return parse_commit_metadata(action["commitInfo"].get("userMetadata"))
    return None


def parse_commit_metadata(user_metadata: str | None) -> dict[str, Any] | None:
    """Headrace's part of a commit's `userMetadata`; None when another writer made the commit."""
    if not user_metadata or not user_metadata.startswith('{"headrace"'):
        return None
    found: dict[str, Any] = json.loads(user_metadata)["headrace"]
    return found


def _snapshot(session: SparkSession, uri: str) -> JavaObject:
    jvm = session._jvm
    assert jvm is not None
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(session._jsparkSession, uri)
    return log.update(False, jvm.scala.Option.empty(), jvm.scala.Option.empty())
