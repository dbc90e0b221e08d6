"""The streams' topic and tables as Dagster assets. External ones: a table has no button that starts a second writer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import dagster as dg

from platform_assets.reports.days import CLOSED_DAYS_KEY, FIRST_DAY, build_daily_partitions
from platform_assets.reports.presentation import build_column_schema
from platform_assets.streaming.stream_spec import KafkaStream, Stream
from platform_assets.tables.platform import LEDGER, PLATFORM_TABLES
from platform_assets.tables.spec import TableSpec

OWNERS = ["team:data-platform"]


def topic_asset_key(topic: str) -> dg.AssetKey:
    """The asset key of a Kafka topic. Dagster allows letters, digits and underscores in a key's parts."""
    return dg.AssetKey(["kafka", topic.replace("-", "_").replace(".", "_")])


def build_stream_assets(streams: Iterable[Stream], topic: str, first_day: date = FIRST_DAY) -> list[dg.AssetSpec]:
    """Specs of the topic, of each table that a stream writes, of the platform's own tables, and of the closed days.

    Days are closed from `first_day` (UTC) on.
    """
    streams = list(streams)
    topic_spec = dg.AssetSpec(
        topic_asset_key(topic),
        description="Events of the shop, keyed by user, as they happen.",
        kinds={"kafka", "json"},
        group_name="sources",
        owners=OWNERS,
        metadata={"kafka/topic": topic},
    )
    specs = [topic_spec]
    for stream in streams:
        source = topic_asset_key(topic) if isinstance(stream, KafkaStream) else _key(stream.source.table)
        specs += [_table_asset(table, [source], f"Streaming query `{stream.name}`.") for table in stream.tables]
    main_tables = [_key(stream.main_table) for stream in streams]
    specs += [
        _table_asset(table, main_tables[:1] if table is LEDGER else main_tables, "Written by the stream group.")
        for table in PLATFORM_TABLES
    ]
    specs.append(
        dg.AssetSpec(
            CLOSED_DAYS_KEY,
            deps=main_tables,
            description="Days for which every stream's table is complete: nothing that came in time is missing, what "
            "came late has been repaired. Materialized by the stream group when it closes a day.",
            kinds={"delta"},
            group_name="platform",
            owners=OWNERS,
            partitions_def=build_daily_partitions(first_day),
        )
    )
    return specs


def _table_asset(table: TableSpec, deps: Iterable[dg.AssetKey], origin: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        _key(table),
        deps=list(deps),
        description=f"{table.description}\n\nGrain: {table.grain}. {origin}",
        kinds={"deltalake", "spark"},
        group_name=table.layer,
        owners=OWNERS,
        metadata={
            "dagster/table_name": table.name,
            "dagster/column_schema": build_column_schema(table),
        },
    )


def _key(table: TableSpec) -> dg.AssetKey:
    return dg.AssetKey(list(table.asset_path))
