"""The three tables of a topic, from its fields: accepted, quarantined and deduplicated records."""

from __future__ import annotations

from collections.abc import Sequence

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.record_types import RecordField
from platform_assets.tables.spec import Column, EventRoles, TableSpec

COORDINATES = (
    Column("topic", "string", "Kafka topic"),
    Column("kafka_partition", "int", "Kafka partition"),
    Column("kafka_offset", "bigint", "Offset in the topic partition"),
    Column("kafka_timestamp", "timestamp", "The record's Kafka timestamp"),
)
HEADERS_TYPE = "array<struct<key:string,value:binary>>"
"""Headers of Kafka records, as Spark reads them: a key may be there several times."""
_KEY = ("topic", "kafka_partition", "kafka_offset")
# Of a topic whose Kafka records hold lists. The length lets the audit miss a row, whichever of a list it is.
PLACE_IN_LIST = (
    Column("record_index", "int", "Place in the Kafka record's list, from 0"),
    Column("record_length", "int", "How many records that list has"),
)


def build_tables(
    name: str,
    description: str,
    fields: Sequence[RecordField],
    time_field: str,
    roles: EventRoles,
    added_fields: Sequence[str],
    is_list: bool = False,
    has_headers: bool = False,
) -> tuple[TableSpec, TableSpec, TableSpec]:
    """The tables of the topic `name`. Raises `TopicSpecError` for a field that has the name of an engine's column."""
    own = {each.name: Column(each.name, each.column_type, each.description) for each in fields}
    time = Column("event_time", "timestamp", f"When it happened (the field `{time_field}`), UTC")
    first = [time if each.name == time_field else own[each.name] for each in fields if each.name not in added_fields]
    if roles.event_id is not None and roles.event_id not in own:
        first.insert(0, Column("event_id", "string", "JSON list of the fields that identify the record"))
    anonymous = Column("is_anonymous", "boolean", f"Whether {roles.user_id} stands for many, or for nobody")
    engine = (
        Column("unknown_fields", "string", "JSON of the fields that the schema does not know, as they were sent"),
        *COORDINATES,
        *(PLACE_IN_LIST if is_list else ()),
        Column("ingested_at", "timestamp", "Time of the micro-batch that accepted it"),
        Column("event_date", "date", "UTC date of event_time (partition)"),
        *((anonymous,) if roles.user_id is not None else ()),
    )
    reserved = {column.name for column in engine} | {"event_time"}
    reserved |= {"event_id"} if roles.event_id is not None and roles.event_id not in own else set()
    for taken in (name for name in own if name.lower() in reserved and name != time_field):
        raise TopicSpecError(f"The table has a column {taken} of its own: give the field another name.", field=taken)
    accepted = TableSpec(
        name=f"silver.{name}",
        description=description,
        grain="one record of an accepted Kafka record's list" if is_list else "one accepted Kafka record",
        key=_build_key(is_list),
        columns=(*first, *engine, *(own[added] for added in added_fields)),
        partition_columns=("event_date",),
        # Readers filter by event time, by arrival (deduplication) and by coordinates (audit).
        statistics_columns=("event_time", "ingested_at", "kafka_partition", "kafka_offset"),
        roles=roles,
    )
    return accepted, _build_quarantine(name, has_headers), _build_deduplicated(name, is_list)


def _build_key(is_list: bool) -> tuple[str, ...]:
    return (*_KEY, PLACE_IN_LIST[0].name) if is_list else _KEY


def _build_quarantine(name: str, has_headers: bool) -> TableSpec:
    return TableSpec(
        name=f"silver.quarantined_{name}",
        description="Records that break the topic's contract, with their raw bytes and the reason. Replayable.",
        grain="one rejected Kafka record",
        key=_KEY,
        columns=(
            Column("key", "binary", "The record's key, raw"),
            Column("value", "binary", "The record's value, raw"),
            *COORDINATES,
            Column("reason", "string", "Stable code of the first broken rule"),
            Column("detail", "string", "What exactly was wrong"),
            Column("quarantined_at", "timestamp", "Time of the micro-batch that rejected it"),
            *((Column("headers", HEADERS_TYPE, "The record's headers, raw, in their order"),) if has_headers else ()),
        ),
        statistics_columns=("kafka_partition", "kafka_offset", "reason", "quarantined_at"),
    )


def _build_deduplicated(name: str, is_list: bool) -> TableSpec:
    return TableSpec(
        name=f"silver.deduplicated_{name}",
        description="Records that repeat an accepted one, and which was kept; with what they say if it is another.",
        grain="one record that repeats an accepted event",
        key=_build_key(is_list),
        columns=(
            *COORDINATES,
            *(PLACE_IN_LIST if is_list else ()),
            Column("event_id", "string", "The repeated id"),
            Column("kept_topic", "string", "Topic of the record that was kept"),
            Column("kept_partition", "int", "Kafka partition of the record that was kept"),
            Column("kept_offset", "bigint", "Offset of the record that was kept"),
            Column("deduplicated_at", "timestamp", "Time of the micro-batch that took it out"),
            Column("is_same_content", "boolean", "Whether all fields equal those of the kept one; null: not compared"),
            Column("content", "string", "JSON of its fields, where they differ from those of the kept one"),
            Column("other_user_id", "string", "Who it is of, where its fields differ"),
        ),
        statistics_columns=("kafka_partition", "kafka_offset", "deduplicated_at"),
    )
