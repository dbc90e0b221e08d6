"""The check that says whether events of one event_id differ: then the second was taken out, and may be another event.

A sender that gives an id twice loses nothing: what the second one says is kept with the repeat. But it is in no sum.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.streaming.stream_spec import Stream, select_ingest
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

# What a sender did long ago and does no more is not to be told for ever.
_DAYS = 7
_SHOWN = 5

_TOTALS = "SELECT count(*), count(DISTINCT event_id) FROM different"
_NEWEST = f"""
    SELECT topic || '/' || kafka_partition || '/' || kafka_offset,
           kept_topic || '/' || kept_partition || '/' || kept_offset
    FROM different ORDER BY deduplicated_at DESC, kafka_partition, kafka_offset LIMIT {_SHOWN}
"""


def build_different_content_checks(streams: Iterable[Stream]) -> list[dg.AssetChecksDefinition]:
    """One check `different_content` for each stream over Kafka with ids; needs `lakehouse` and `duckdb`."""
    with_ids = (stream for stream in select_ingest(streams) if stream.main_table.roles.event_id is not None)
    return [_build_check(stream.tables[2]) for stream in with_ids]


def _build_check(table: TableSpec) -> dg.AssetChecksDefinition:
    def look(connection: "duckdb.DuckDBPyConnection", repeats: "DeltaTable") -> dg.AssetCheckResult:
        from platform_assets.delta_reader import as_timestamptz, register_pinned
        from platform_assets.streaming.delta.delta_tables import build_arrow_schema

        since = datetime.now(UTC) - timedelta(days=_DAYS)
        bounds = ("deduplicated_at", since, datetime.max.replace(tzinfo=UTC))
        register_pinned(connection, "repeats", repeats, bounds, build_arrow_schema(table))
        connection.execute(
            "CREATE TEMP VIEW different AS SELECT * FROM repeats "
            f"WHERE is_same_content = false AND deduplicated_at >= {as_timestamptz(since)}"
        )
        ((records, ids),) = connection.sql(_TOTALS).fetchall()
        return judge(table.name, records, ids, connection.sql(_NEWEST).fetchall())

    return build_duckdb_check(
        table, "different_content",
        f"What was taken out as a repeat says the same as what was kept, of the last {_DAYS} days.",
        look, "No event was taken out yet.",
    )  # fmt: skip


def judge(name: str, records: int, ids: int, shown: list[tuple[Any, ...]]) -> dg.AssetCheckResult:
    """The verdict: a warning, for which of two events is the right one only the sender knows."""
    metadata = {"different_records": records, "different_ids": ids}
    if not records:
        description = f"Every repeat of the last {_DAYS} days says the same as the event that was kept."
        return dg.AssetCheckResult(passed=True, description=description, metadata=metadata)
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{records:,} records of the last {_DAYS} days have an event_id that was there ({ids:,} ids) and say "
            f"something else. They are in no other table; {name} keeps their fields in `content`. The sender gives one "
            f"id to several events, or changes events that it sends again. The newest, with those that were kept: "
            f"{', '.join(f'{own} ({kept})' for own, kept in shown)}."
        ),
        metadata=metadata,
    )
