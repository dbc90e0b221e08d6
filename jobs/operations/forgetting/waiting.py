"""What still holds a forgotten user's data and expires on its own, each with the time at which it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.stream_spec import Stream, TableStream, select_downstream, select_ingest
from platform_assets.tables.platform import COMPLETE_UNTIL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.register.traces import Traces
    from resources.kafka import KafkaResource


def list_what_waits(
    found: Mapping[str, Traces], streams: Sequence[Stream], context: StreamContext, kafka: KafkaResource
) -> tuple[str, ...]:
    """Sentences about Kafka, the queries' state, published topics, and what lies outside the lakehouse.

    `found` is what each stream over Kafka had of the user, by its name.
    """
    ingest = [stream for stream in select_ingest(streams) if stream.name in found]
    said = [_describe_topic(found[stream.name], context.ingest[stream.name].topic, kafka) for stream in ingest]
    for over in ingest:
        derived = select_downstream([over], streams)
        states = (_describe_state(found[over.name], stream, context) for stream in derived)
        said += [text for text in states if text is not None]
    said += [
        f"Topic {topic}: the user's keys have tombstones; what was published before goes with the topic's compaction."
        for topic in sorted(context.publish_topics)
    ]
    said.append("Dagster's history of runs and checks, logs and backups are no tables: see docs/forgetting-a-user.md.")
    return tuple(said)


def _describe_topic(found: Traces, topic: str, kafka: KafkaResource) -> str:
    retention, last = kafka.retention(topic), pc.max(found.events["kafka_timestamp"]).as_py()
    if retention is None:
        return f"Topic {topic} keeps its records for ever: remove the user's with Kafka's own tools."
    gone = (last or datetime.now(UTC)) + retention
    return f"Topic {topic} has the user's records until about {gone:%Y-%m-%d %H:%M} UTC; nobody reads them in."


def _describe_state(found: Traces, stream: TableStream, context: StreamContext) -> str | None:
    types = stream.source.event_types
    own = found.events.filter(pc.is_in(found.events["event_type"], pa.array(list(types)))) if types else found.events
    last = pc.max(own["event_time"]).as_py()
    state = read_complete_until(context.table_uri(COMPLETE_UNTIL.name), stream.name, context.storage_options)
    if last is None or state is None:
        return None
    closes = last + stream.span.longest_open
    if state["watermark"] >= closes:
        return f"The state files of {stream.name} have closed rows of the user until its next 100 batches are done."
    return (
        f"The state of {stream.name} has rows of the user until its watermark, now {state['watermark']:%H:%M:%S}, has "
        f"passed {closes:%Y-%m-%d %H:%M:%S} UTC and 100 batches are done; they come into no table."
    )
