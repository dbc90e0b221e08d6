"""Creates the public Delta tables, and says what their commits hold. Through delta-rs: no JVM, milliseconds a call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.table_schema import evolve_table
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Schema, Transaction

# A table that a batch run writes a few times a day: its history is worth keeping for people.
LOG_RETENTION = "interval 30 days"


def build_arrow_schema(spec: TableSpec) -> pa.Schema:
    """The table's columns as Arrow types; a timestamp is in microseconds, UTC."""
    import pyarrow as pa

    return pa.schema([pa.field(c.name, as_arrow(c.type), c.nullable) for c in spec.columns])


def find_table(uri: str, options: Mapping[str, str]) -> DeltaTable | None:
    """Opens the table; None where there is none.

    Not by `is_deltatable`, which lets no other thread run until a store has answered, the one that sends heartbeats
    neither (`findings/delta-rs-looks-for-a-table-alone.sh`).
    """
    from deltalake.exceptions import TableNotFoundError

    try:
        return open_table(uri, options)
    except TableNotFoundError:
        return None


def create_table(
    uri: str, spec: TableSpec, storage_options: Mapping[str, str] | None = None, log_retention: str = LOG_RETENTION
) -> DeltaTable:
    """Opens the table; creates it, empty, when it does not exist. Readable by independent clients: protocol 1/2 only.

    An older table gets the columns that are new in the spec; see `table_schema.evolve_table`, also for the
    `TableSchemaError` that it raises. `log_retention` counts only at the creation.
    """
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    options = dict(storage_options or {})
    if (table := find_table(uri, options)) is not None:
        try:
            evolve_table(table, spec, _build_schema(spec))
        except CommitFailedError:  # another group has met the same older table, or writes its rows
            table.update_incremental()
            evolve_table(table, spec, _build_schema(spec))
        return table
    properties = {"delta.enableDeletionVectors": "false", "delta.logRetentionDuration": log_retention}
    if spec.statistics_columns:
        properties["delta.dataSkippingStatsColumns"] = ",".join(spec.statistics_columns)
    try:
        DeltaTable.create(
            uri, _build_schema(spec), mode="ignore", description=spec.description, configuration=properties,
            partition_by=list(spec.partition_columns) or None, storage_options=options,
            # A second try would make the table once more, as version 1 with an id of its own.
            commit_properties=CommitProperties(max_commit_retries=0),
        )  # fmt: skip
    except CommitFailedError:
        # Two groups that start together make the platform's tables: this one came second.
        if find_table(uri, options) is None:
            raise
    return open_table(uri, options)


def _build_schema(spec: TableSpec) -> Schema:
    from deltalake import Field, Schema

    found = Schema.from_arrow(build_arrow_schema(spec))
    fields = [
        Field(field.name, field.type, nullable=field.nullable, metadata={"comment": column.description})
        for field, column in zip(found.fields, spec.columns, strict=True)
    ]
    return Schema(fields)


def as_sql(moment: datetime) -> str:
    """A moment (UTC) in a condition of a merge."""
    return f"timestamp '{moment:%Y-%m-%dT%H:%M:%S.%fZ}'"


def open_table(uri: str, storage_options: Mapping[str, str] | None = None) -> DeltaTable:
    """The table at its newest version. Raises deltalake's `TableNotFoundError`."""
    from platform_assets.delta_reader import ArrowReadTable

    return ArrowReadTable(uri, storage_options=dict(storage_options or {}))


def read_commit_infos(table: DeltaTable, newest: int | None) -> list[tuple[int, CommitInfo]]:
    """What Headrace wrote into the `newest` commits of the table (None: all), with their versions, newest first.

    Commits of other writers (upkeep) and those that the log no longer holds are left out.
    """
    found = ((commit["version"], CommitInfo.parse(commit.get("userMetadata"))) for commit in table.history(newest))
    return [(version, info) for version, info in found if info is not None]


def commit_metadata(info: CommitInfo) -> dict[str, str]:
    """What a commit of Headrace's carries for `CommitInfo.parse`, as delta-rs takes it."""
    return {"userMetadata": info.as_json()}


def name_transaction(app: str, version: int) -> Transaction:
    """The transaction that a commit carries, with the time: Spark takes one without for expired at its next checkpoint.

    So it does in a table with `delta.setTransactionRetentionDuration`. A batch that is replayed afterwards would be
    appended a second time.
    """
    from deltalake import Transaction

    return Transaction(app, version, time.time_ns() // 1_000_000)
