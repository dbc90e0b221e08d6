"""Which records of a batch repeat an accepted event: by the ids in memory, and by the table for what is older."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.arrays import to_int64s
from platform_assets.streaming.arrow_messages import unpack
from platform_assets.streaming.checkpoint.checkpoint import PlannedBatch
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.ingest.deduplication import (
    Duplicates,
    Known,
    RecentIds,
    hash_ids,
    pack_coordinates,
)
from platform_assets.streaming.ingest.event_clock import UTC_MICROS
from platform_assets.streaming.ingest.event_content import hash_contents, list_content, open_connection
from platform_assets.streaming.ingest.record_files import NUMBER, WrittenRecords
from platform_assets.streaming.ingest.record_numbers import find_events, read_coordinates
from platform_assets.streaming.ingest.sent_again import find_sent_again
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    from platform_assets.streaming.ingest.judged_records import JudgedBatch


class RepeatFinder:
    """Remembers the ids that a table has accepted within the horizon; None: nothing is looked for, nor remembered.

    Used by one stream's writer, from one thread. After a start it reads them back from the table.
    """

    def __init__(self, topic: Topic, events: DeltaReader, horizon_micros: int | None) -> None:
        self._topic, self._events, self._horizon_micros = topic, events, horizon_micros
        self._recent: RecentIds | None = None

    def find(self, written: Sequence[WrittenRecords], numbers: pa.Table, planned: PlannedBatch) -> Duplicates:
        """The records among `numbers` (of all tasks, in their order) that repeat one another or an accepted one."""
        if self._horizon_micros is None:
            return Duplicates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        if self._recent is None:
            self._recent = self._read_recent_ids(planned.arrival_micros, self._horizon_micros)
        is_event = find_events(numbers)
        # A copy of all would be most of what the driver holds of a large batch.
        events = numbers if is_event.true_count == len(numbers) else numbers.filter(is_event)
        places = np.flatnonzero(is_event)
        older = self._find_older(written, planned.arrival_micros - self._horizon_micros, len(numbers))
        found = self._recent.find_duplicates(
            to_int64s(events, "hash1"), to_int64s(events, "hash2"), read_coordinates(events),
            to_int64s(events, "content"), planned.arrival_micros,
            {r.kafka_partition: r.from_offset for r in planned.ranges}, older.take(places),
        )  # fmt: skip
        return replace(found, positions=places[found.positions])

    def remember(self, batch: JudgedBatch, arrival_micros: int) -> None:
        """Remembers the records that a batch has accepted. Call it when they are committed."""
        if self._recent is None:
            return
        names = ("hash1", "hash2", "kafka_partition", "kafka_offset", "content")
        hash1, hash2, partitions, offsets, contents = map(batch.accepted, names)
        arrivals = np.full(len(offsets), arrival_micros, dtype=np.int64)
        self._recent.add(hash1, hash2, pack_coordinates(partitions, offsets), contents, arrivals)

    def _find_older(self, written: Sequence[WrittenRecords], until: int, records: int) -> Known:
        """What the batch's records repeat that was accepted up to a moment, and in no memory is any more."""
        known, start = Known.nothing(records), 0
        for task in written:
            late = unpack(task.old)
            again = None if late is None else find_sent_again(self._topic, self._events, late, until)
            if late is not None and again is not None:
                places = start + late[NUMBER].to_numpy()
                known.coordinates[places], known.contents[places] = again.coordinates, again.contents
            start += task.count
        return known

    def _read_recent_ids(self, arrival_micros: int, horizon_micros: int) -> RecentIds:
        """The ids that the table holds within the horizon: at a start, and after a long stop."""
        event_id = self._topic.roles.event_id
        assert event_id is not None, "A horizon is of a topic with ids."
        oldest = pa.scalar(arrival_micros - horizon_micros, pa.int64()).cast(UTC_MICROS)
        needed = [*list_content(self._topic), event_id, "kafka_partition", "kafka_offset", "ingested_at"]
        recent, hashing = RecentIds(horizon_micros), open_connection()
        for batch in self._events.read_batches(list(dict.fromkeys(needed)), pc.field("ingested_at") > oldest):
            rows = pa.Table.from_batches([batch])
            if len(rows):
                ids = hash_ids(rows.column(event_id).cast(pa.string()))
                contents = hash_contents(hashing, self._topic, rows)
                recent.add(*ids, read_coordinates(rows), contents, to_int64s(rows, "ingested_at"))
        return recent
