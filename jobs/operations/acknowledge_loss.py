"""Lets a stream resume after what Kafka no longer holds; who asked and why is recorded before anything is skipped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobs.supervision.owned_groups import own_groups
from jobs.supervision.stream_context import build_stream_context
from platform_assets.errors import SettingError, UsageError
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.ingest.lost_ranges import (
    LostRange,
    build_rows,
    find_acknowledged_offsets,
    find_lost_ranges,
)
from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup
from platform_assets.tables.platform import LOST_RANGES
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext
    from resources.settings import Settings


BEGINNING, END = "beginning", "end"


def acknowledge_loss(
    group: StreamGroup, settings: Settings, by: str, reason: str, go_on_from: str = ""
) -> list[LostRange]:
    """Finds what the group's streams over Kafka have lost; with a `reason` records it and lets them go on.

    `go_on_from` is for a topic that is another one than was read: `beginning`, `end`, or a time with a zone, ISO-8601;
    without it nothing is recorded of one. Returns the ranges, none where nothing is lost.

    A stream's checkpoint is removed, for it says to read what is gone; the next one begins behind the table's last
    commit and the ranges. In this order, so that a crash between them only means to call it again. Raises
    `GroupOwnedError` while the group runs on any host, `BrokerUnavailableError`, `UsageError` for a place to go on from
    that is missing or none.
    """
    lakehouse = LakehouseResource.from_settings(settings)
    with (
        own_groups([group.name], "acknowledge", settings) as owned,
        KafkaResource.from_settings(settings) as kafka,
    ):
        context = build_stream_context(settings, kafka, lakehouse, group.ingest, check_lease=owned.demand)
        lost = []
        for stream in group.ingest:
            own = _find_lost(stream, context, kafka, go_on_from if reason else None)
            if own and reason:
                _record(own, stream, context, by, reason)
                owned.demand()
                lakehouse.remove_checkpoint(stream.main_table.name)
            lost += own
        return lost


def _find_lost(
    stream: KafkaStream, context: StreamContext, kafka: KafkaResource, go_on_from: str | None
) -> list[LostRange]:
    """What the stream has lost. `go_on_from` None: nothing is to be recorded, and no place to go on from is needed."""
    last = DeltaReader(stream.main_table, context).read_last_batch()
    if last is None:
        return []
    ingest = context.ingest[stream.name]
    topic, fetch_held = ingest.topic, ingest.fetch_held
    assert fetch_held is not None
    read = {partition: until for name, partition, _, until in last.ranges or [] if name == topic}
    if not read:
        table = stream.main_table.name
        raise SettingError(f"HEADRACE_TOPIC: the last offsets of {table} are of another topic than {topic}.")
    lost = find_lost_ranges(topic, read, last.topic_id, fetch_held())
    if go_on_from is not None and any(item.is_of_another_topic for item in lost):
        offsets = _find_offsets(kafka, topic, go_on_from)
        lost = [replace(item, next_offset=offsets[item.kafka_partition]) for item in lost]
    return lost


def _record(lost: list[LostRange], stream: KafkaStream, context: StreamContext, by: str, reason: str) -> None:
    import pyarrow as pa

    table, last = DeltaWriter(LOST_RANGES, context), DeltaReader(stream.main_table, context).read_last_batch()
    assert last is not None  # there would be nothing to lose
    # Called again after a crash: the record is there, the checkpoint may be.
    known = find_acknowledged_offsets(table.read_arrow().to_pylist(), last, context.ingest[stream.name].topic)
    if any(known.get(item.kafka_partition) != item.next_offset for item in lost):
        rows = pa.Table.from_pylist(build_rows(lost, by, reason, datetime.now(UTC)), build_arrow_schema(LOST_RANGES))
        table.put(rows, "true", CommitInfo(CommitKind.ACKNOWLEDGED_LOSS))


def _find_offsets(kafka: KafkaResource, topic: str, go_on_from: str) -> dict[int, int]:
    """The offsets at which reading begins in each partition of a topic that was replaced by another."""
    if go_on_from == BEGINNING:
        return kafka.beginning_offsets(topic)
    if go_on_from == END:
        return kafka.end_offsets(topic)
    try:
        return kafka.offsets_at(topic, datetime.fromisoformat(go_on_from))
    except ValueError:
        raise UsageError(
            f"Topic {topic} is another one than was read: say from where to go on. --from {BEGINNING} reads all of it; "
            "an event that was read before is recognised by its event_id and time, and not counted twice (unless "
            f"HEADRACE_DEDUPLICATION is false). --from {END} reads what comes from now on. "
            "--from 2026-11-27T06:00:00Z reads what is not older."
        ) from None
