"""Stream `events`: Kafka records of the shop, typed, validated and deduplicated, each in exactly one table."""

from __future__ import annotations

from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.spec import Column, EventRoles, TableSpec

COORDINATES = (
    Column("topic", "string", "Kafka topic"),
    Column("kafka_partition", "int", "Kafka partition"),
    Column("kafka_offset", "bigint", "Offset in the topic partition"),
    Column("kafka_timestamp", "timestamp", "The record's Kafka timestamp"),
)

EVENTS = TableSpec(
    name="silver.events",
    description="Accepted shop events: typed, validated, deduplicated by arrival, however late.",
    grain="one accepted Kafka record",
    key=("topic", "kafka_partition", "kafka_offset"),
    columns=(
        Column("event_id", "string", "The event's own id; unique within the deduplication horizon"),
        Column("event_type", "string", "page_view, add_to_cart, remove_from_cart or purchase"),
        Column("event_time", "timestamp", "When it happened, as the shop says (the event's `timestamp`)"),
        Column("user_id", "string", "Who"),
        Column("product_id", "string", "Which product"),
        Column("product_name", "string", "The product's name"),
        Column("category", "string", "The product's category"),
        Column("price", "double", "Unit price"),
        Column("quantity", "int", "Units"),
        Column("session_id", "string", "The shop's own session id"),
        Column("device_type", "string", "Device"),
        Column("country", "string", "Country"),
        Column("revenue", "double", "Revenue as it was sent; null where none was"),
        Column("unknown_fields", "string", "JSON of the fields that the schema does not know, as they were sent"),
        *COORDINATES,
        Column("ingested_at", "timestamp", "Time of the micro-batch that accepted it"),
        Column("event_date", "date", "UTC date of event_time (partition)"),
        Column("is_anonymous", "boolean", "Whether user_id stands for many, or for nobody"),
        Column("currency", "string", "Currency of price and revenue, three capitals; null where none was sent"),
    ),
    partition_columns=("event_date",),
    # Readers filter by event time, by arrival (deduplication) and by coordinates (audit).
    statistics_columns=("event_time", "ingested_at", "kafka_partition", "kafka_offset"),
    roles=EventRoles(event_id="event_id", user_id="user_id", event_type="event_type"),
)

QUARANTINED_EVENTS = TableSpec(
    name="silver.quarantined_events",
    description="Records that break the event contract, with their raw bytes and the reason. Replayable.",
    grain="one rejected Kafka record",
    key=("topic", "kafka_partition", "kafka_offset"),
    columns=(
        Column("key", "binary", "The record's key, raw"),
        Column("value", "binary", "The record's value, raw"),
        *COORDINATES,
        Column("reason", "string", "Stable code of the first broken rule"),
        Column("detail", "string", "What exactly was wrong"),
        Column("quarantined_at", "timestamp", "Time of the micro-batch that rejected it"),
    ),
    statistics_columns=("kafka_partition", "kafka_offset", "reason", "quarantined_at"),
)

DEDUPLICATED_EVENTS = TableSpec(
    name="silver.deduplicated_events",
    description="Records that repeat an accepted event, and which one was kept; with what they say if it is another.",
    grain="one record that repeats an accepted event",
    key=("topic", "kafka_partition", "kafka_offset"),
    columns=(
        *COORDINATES,
        Column("event_id", "string", "The repeated id"),
        Column("kept_topic", "string", "Topic of the record that was kept"),
        Column("kept_partition", "int", "Kafka partition of the record that was kept"),
        Column("kept_offset", "bigint", "Offset of the record that was kept"),
        Column("deduplicated_at", "timestamp", "Time of the micro-batch that took it out"),
        Column("is_same_content", "boolean", "Whether all its fields equal those of the kept one; null: not compared"),
        Column("content", "string", "JSON of its fields, where they differ from those of the kept one"),
        Column("other_user_id", "string", "Who it is of, where its fields differ"),
    ),
    statistics_columns=("kafka_partition", "kafka_offset", "deduplicated_at"),
)

STREAM = KafkaStream(
    name="events",
    tables=(EVENTS, QUARANTINED_EVENTS, DEDUPLICATED_EVENTS),
)
