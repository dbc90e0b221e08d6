"""The streams' topic and tables as Dagster assets. External ones: a table has no button that starts a second writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import dagster as dg

from platform_assets.alerting.alert_spec import CHANNEL_PREFIX, name_alert_query
from platform_assets.alerts import load_alerts
from platform_assets.relays import load_relays
from platform_assets.reports.days import FIRST_DAY, build_daily_partitions, closed_days_key
from platform_assets.reports.presentation import build_column_schema
from platform_assets.streaming.relay_spec import RelayStream
from platform_assets.streaming.stream_spec import (
    KafkaStream,
    StreamGroup,
    TableStream,
    name_publisher,
    name_sink,
    name_topics,
    select_ingest,
)
from platform_assets.tables.platform import ALERT_POSITIONS, ALERTS, LEDGER, PLATFORM_TABLES
from platform_assets.tables.spec import TableSpec

_OF_ALERTS = (ALERTS, ALERT_POSITIONS)
OWNERS = ["team:data-platform"]


def topic_asset_key(topic: str) -> dg.AssetKey:
    """The asset key of a Kafka topic. Dagster allows letters, digits and underscores in a key's parts."""
    return dg.AssetKey(["kafka", topic.replace("-", "_").replace(".", "_")])


def sink_asset_key(table: TableSpec) -> dg.AssetKey:
    """The asset key of the table in Postgres that a sink keeps in step with this one."""
    return dg.AssetKey(["postgres", table.name.replace(".", "_")])


def alert_asset_key(name: str) -> dg.AssetKey:
    """The asset key of an alert, or of a channel that tells of alerts, by the name of its query."""
    return dg.AssetKey(["alerts", name])


def build_stream_assets(
    groups: Sequence[StreamGroup], shop_topic: str, first_day: date = FIRST_DAY
) -> list[dg.AssetSpec]:
    """Specs of the topics, of each table that a stream writes, of the platform's own tables, and of the closed days.

    Days are closed from `first_day` (UTC) on. `shop_topic` as in `name_topics`.
    """
    streams = [stream for group in groups for stream in group.streams]
    topics = name_topics(streams, shop_topic)
    relays = load_relays(name for group in groups for name in group.relays)
    specs = [spec for relay in relays for spec in _relay_assets(relay)]
    made = {spec.key for spec in specs}
    specs += [
        _topic_asset(stream, topics[stream.name])
        for stream in select_ingest(streams)
        if topic_asset_key(topics[stream.name]) not in made
    ]
    for stream in streams:
        source = topic_asset_key(topics[stream.name]) if isinstance(stream, KafkaStream) else _key(stream.source.table)
        specs += [_table_asset(table, [source], f"Streaming query `{stream.name}`.") for table in stream.tables]
    main_tables = [_key(stream.main_table) for stream in streams]
    ingested = [_key(stream.main_table) for stream in select_ingest(streams)]
    specs += [
        _table_asset(table, ingested if table is LEDGER else main_tables, "Written by the stream groups.")
        for table in PLATFORM_TABLES
        if table not in _OF_ALERTS
    ]
    watching = [
        alert_asset_key(name) for group in groups for name in group.alerts if not name.startswith(CHANNEL_PREFIX)
    ]
    specs += [_table_asset(table, watching, "Written by the group of alerts.") for table in _OF_ALERTS]
    specs += [_sink_asset(table) for group in groups for table in group.sinks]
    specs += [_alert_asset(name) for group in groups for name in group.alerts]
    made = {spec.key for spec in specs}
    specs += [
        _published_asset(stream, stream.publish_topic)
        for group in groups
        for stream in group.published
        # Where a group reads it too it is there already.
        if stream.publish_topic and topic_asset_key(stream.publish_topic) not in made
    ]
    return [*specs, *(_closed_days_asset(group, first_day) for group in groups if group.derived)]


def _topic_asset(stream: KafkaStream, topic: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        topic_asset_key(topic),
        description=f"The records that become {stream.main_table.name}, as they happen.",
        kinds={"kafka", "json"},
        group_name="sources",
        owners=OWNERS,
        metadata={"kafka/topic": topic},
    )


def _relay_assets(relay: RelayStream) -> list[dg.AssetSpec]:
    """The topics that it writes, and the tables that it keeps for itself."""
    joined = [_key(table) for table in relay.tables]
    topics = [
        dg.AssetSpec(
            topic_asset_key(topic),
            deps=[topic_asset_key(relay.source.kafka_topic), *joined],
            description=f"Written by the relay `{relay.name}`, milliseconds after each record of its source.",
            kinds={"kafka", "json", "spark"},
            group_name="relays",
            owners=OWNERS,
            metadata={"kafka/topic": topic},
        )
        for topic in relay.outputs
    ]
    tables = [_table_asset(table, [], f"Written by the relay `{relay.name}`.") for table in relay.tables]
    return [*topics, *tables]


def _sink_asset(table: TableSpec) -> dg.AssetSpec:
    return dg.AssetSpec(
        sink_asset_key(table),
        deps=[_key(table)],
        description=f"{table.name} in Postgres, kept in step by the sink `{name_sink(table)}`, exactly once by the "
        "table's version.",
        kinds={"postgres"},
        group_name="databases",
        owners=OWNERS,
        metadata={"dagster/table_name": table.name, "dagster/column_schema": build_column_schema(table)},
    )


def _alert_asset(name: str) -> dg.AssetSpec:
    """An alert reads its table and writes `platform.alerts`; a channel tells of what stands there."""
    alerts = {name_alert_query(spec.name): spec for spec in load_alerts()}
    spec = alerts.get(name)
    return dg.AssetSpec(
        alert_asset_key(name),
        deps=[_key(ALERTS if spec is None else spec.table)],
        description="Tells of alerts, each at least once." if spec is None else spec.description,
        kinds={"alert"} if spec is not None else {name.removeprefix(CHANNEL_PREFIX)},
        group_name="alerts",
        owners=OWNERS,
        metadata={} if spec is None else {"severity": spec.severity.value, "owner": spec.owner},
    )


def _published_asset(stream: TableStream, topic: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        topic_asset_key(topic),
        deps=[_key(stream.main_table)],
        description=f"{stream.main_table.name} in Kafka, published by `{name_publisher(stream)}`: each version of the "
        "table once.",
        kinds={"kafka"},
        group_name="published",
        owners=OWNERS,
        metadata={"kafka/topic": topic},
    )


def _closed_days_asset(group: StreamGroup, first_day: date) -> dg.AssetSpec:
    return dg.AssetSpec(
        closed_days_key(group.closed_days),
        deps=[_key(stream.main_table) for stream in group.streams],
        description="Days for which every stream's table is complete: nothing that came in time is missing, what "
        f"came late has been repaired. Materialized by the stream group {group.name} when it closes a day.",
        kinds={"delta"},
        group_name="platform",
        owners=OWNERS,
        partitions_def=build_daily_partitions(first_day),
    )


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
