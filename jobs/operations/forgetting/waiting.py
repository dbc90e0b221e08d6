"""What still holds a forgotten user's data and expires on its own, each with the time at which it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from platform_assets.streaming.derive.late_events import as_late
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL
from resources.kafka_topics import read_retention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.register.found_traces import Traces
    from resources.kafka import KafkaResource


def list_what_waits(
    found: Sequence[Traces], derived: Sequence[TableStream], context: StreamContext, kafka: KafkaResource
) -> tuple[str, ...]:
    """Sentences about Kafka, the queries' state, published topics, and what lies outside the lakehouse."""
    by_table = {traces.table: traces for traces in found}
    said = [_describe_topic(found, topic, kafka) for topic in sorted(each.topic for each in context.ingest.values())]
    for stream in derived:
        traces = by_table.get(stream.source.table.name)
        if traces is not None and (text := _describe_state(traces, stream, context)) is not None:
            said.append(text)
    said += [
        f"Topic {topic}: the user's keys have tombstones; what was published before goes with the topic's compaction."
        for topic in sorted(context.publish_topics)
    ]
    said.append("Dagster's history of runs and checks, logs and backups are no tables: see docs/forgetting-a-user.md.")
    return tuple(said)


def _describe_topic(found: Sequence[Traces], topic: str, kafka: KafkaResource) -> str:
    times = (pc.max(traces.events["kafka_timestamp"]).as_py() for traces in found)
    retention, last = read_retention(kafka, topic), max((time for time in times if time is not None), default=None)
    if retention is None:
        return f"Topic {topic} keeps its records for ever: remove the user's with Kafka's own tools."
    gone = (last or datetime.now(UTC)) + retention
    return f"Topic {topic} has the user's records until about {gone:%Y-%m-%d %H:%M} UTC; nobody reads them in."


def _describe_state(found: Traces, stream: TableStream, context: StreamContext) -> str | None:
    if stream.is_latest:  # it keeps no rows but those of its table
        return None
    last = pc.max(as_late(found.events, stream.source)["event_time"]).as_py()
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
