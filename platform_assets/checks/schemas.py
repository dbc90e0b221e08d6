"""The check that names the schemas of a registry by which records came that could not be read, with the difference.

It looks at what was quarantined within the last day. Records that a requeue has taken in since do not count.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.platform import REQUEUED_RECORDS

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

# A day has each hour's producers in it. What is older and not taken in is somebody's decision.
_LOOKED_AT = timedelta(days=1)
# More are no help to a person: the first ones have the most records.
_MOST_SHOWN = 20
_BY_SCHEMA = """
    SELECT reason, detail, count(*) AS records, max(quarantined_at) AS newest
    FROM quarantined ANTI JOIN requeued USING (topic, kafka_partition, kafka_offset)
    WHERE quarantined_at > $since AND reason IN ('unreadable_schema', 'unknown_schema')
    GROUP BY ALL ORDER BY records DESC, detail
"""


@dataclass(frozen=True)
class UnreadRecords:
    """Records of one schema that were quarantined for one cause, which `detail` says."""

    reason: str
    detail: str
    records: int
    newest: datetime

    def __str__(self) -> str:
        return f"{self.records:,} records until {self.newest:%Y-%m-%d %H:%M} UTC: {self.detail}"


def build_schemas_checks(streams: Iterable[KafkaStream]) -> list[dg.AssetChecksDefinition]:
    """One check `schemas` for each stream whose values schemas wrote; needs the resources `lakehouse` and `duckdb`."""
    return [_build_check(stream) for stream in streams if stream.topic.is_registered]


def judge(found: Sequence[UnreadRecords]) -> dg.AssetCheckResult:
    """The verdict, with what to do: an error where the contract cannot read a schema, else a warning."""
    if not found:
        return dg.AssetCheckResult(passed=True, description="Each record of the last day was read by its schema.")
    said = "; ".join(map(str, found[:_MOST_SHOWN]))
    is_error = any(each.reason == "unreadable_schema" for each in found)
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=f"{said}. Correct the topic's contract or the schema (headrace check-contract compares them), then "
        "call headrace requeue.",
        metadata={
            "records": sum(each.records for each in found),
            "schemas": dg.MetadataValue.md("\n".join(f"- {each}" for each in found[:_MOST_SHOWN])),
        },
    )


def read_unread(
    connection: "duckdb.DuckDBPyConnection", quarantined: "DeltaTable", requeued: "DeltaTable | None", now: datetime
) -> list[UnreadRecords]:
    """What was quarantined for its schema within the day before `now`, the most records first."""
    from platform_assets.delta_reader import register_pinned
    from platform_assets.streaming.delta.delta_tables import build_arrow_schema

    since = now - _LOOKED_AT
    bounds = ("quarantined_at", since, datetime.max.replace(tzinfo=UTC))
    register_pinned(connection, "quarantined", quarantined, bounds)
    if requeued is None:
        connection.register("requeued", build_arrow_schema(REQUEUED_RECORDS).empty_table())
    else:
        register_pinned(connection, "requeued", requeued)
    found = connection.sql(_BY_SCHEMA, params={"since": since}).to_arrow_table().to_pylist()
    return [UnreadRecords(**row) for row in found]


def _build_check(stream: KafkaStream) -> dg.AssetChecksDefinition:
    def look(
        connection: "duckdb.DuckDBPyConnection", quarantined: "DeltaTable", requeued: "DeltaTable | None"
    ) -> dg.AssetCheckResult:
        return judge(read_unread(connection, quarantined, requeued, datetime.now(UTC)))

    return build_duckdb_check(
        stream.tables[1], "schemas",
        "Schemas of the registry by which records of the last day came that the contract cannot read, and why.",
        look, "There is no quarantined record yet.", REQUEUED_RECORDS,
    )  # fmt: skip
