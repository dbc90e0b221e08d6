"""Reads, parses and writes the records of a batch, in Spark's tasks: no record passes through the driver.

A task writes what it accepts and what it rejects into files of the two tables, which nobody has committed yet. To the
driver go the files and a few numbers a record (`record_numbers.number_records`), by which it decides what repeats what
and what the ledger says. Memory: one batch of the reader's and one row group of each file, however many records.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.streaming.arrow_messages import pack
from platform_assets.streaming.delta.portion_files import NewFile, PortionWriter, TableFolder
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.json_forms import ReadForm, find_read_form
from platform_assets.streaming.formats.registered_schema import SchemaSource, SeenSchemas
from platform_assets.streaming.ingest.deduplication import hash_ids
from platform_assets.streaming.ingest.event_content import hash_contents, open_connection
from platform_assets.streaming.ingest.read_tasks import Range
from platform_assets.streaming.ingest.record_numbers import find_events, number_records
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.ingest.record_rows import add_arrival, as_accepted, as_refused
from platform_assets.streaming.ingest.sent_again import find_old
from platform_assets.streaming.ingest.task_job import run_in_tasks
from platform_assets.streaming.register.forgotten_names import ForgottenNames
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import ReadRecords

# A batch of the reader's is 5,000 records: with the default of 700 it was looked at seven times.
_OBJECTS_BETWEEN_LOOKS = 50_000
NUMBER = "_record"
"""The column of `WrittenRecords.old` that says which record of the task it is. No topic has a field of this name."""


@dataclass(frozen=True)
class BatchOrder:
    """What the tasks of one batch are told. `horizon_micros` None: nothing is deduplicated.

    `arrival_micros` is the batch's own time, the same on every replay, so that a record's verdict is too.
    """

    topic: Topic
    kafka_topic: str
    arrival_micros: int
    max_record_bytes: int
    rules: EventRules
    read: ReadRecords = field(repr=False)
    forgotten: ForgottenNames
    accepted: TableFolder
    quarantined: TableFolder
    horizon_micros: int | None
    schemas: SchemaSource | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WrittenRecords:
    """What one task has read: its files, and Arrow messages of the records' `numbers`, in the order of the reading.

    `old` has id, `event_time` and `NUMBER` of those that may repeat one from before the horizon. `unresolved` are the
    ids for which the registry gave no schema, `resolved` those for which it did. `value_bytes` is the size of the
    records' values.
    """

    count: int
    numbers: bytes
    old: bytes
    accepted: tuple[NewFile, ...]
    quarantined: tuple[NewFile, ...]
    unresolved: frozenset[int] = frozenset()
    resolved: frozenset[int] = frozenset()
    value_bytes: int = 0


def run_tasks(session: SparkSession, order: BatchOrder, tasks: Sequence[Sequence[Range]]) -> list[WrittenRecords]:
    """Has each task read its ranges, in one Spark job on the thread of the query; none where there is no task.

    Raises what Spark raises for a failed job. Files of tasks that were cut short belong to nobody.
    """
    return run_in_tasks(session, lambda ranges: write_records(order, ranges), tasks)


def write_records(order: BatchOrder, ranges: Sequence[Range]) -> WrittenRecords:
    """Reads the ranges and writes their records. Called in a task."""
    _spare_collector()
    accepted, quarantined = PortionWriter(order.accepted), PortionWriter(order.quarantined)
    numbers, old = [], []
    count, value_bytes, seen_schemas = 0, 0, SeenSchemas()
    schemas = None if order.schemas is None else replace(order.schemas, seen=seen_schemas)
    for batch in order.read(order.kafka_topic, ranges, order.topic.has_headers):
        value_bytes += batch.column("value").nbytes
        found = parse_batch(batch, order.topic, order.arrival_micros, order.max_record_bytes, order.rules, schemas)
        records = add_arrival(pa.Table.from_batches([found]), order.kafka_topic, order.arrival_micros)
        seen = _look_at(order, records, frozenset(seen_schemas.unresolved))
        is_event = find_events(seen)
        accepted.write(as_accepted(records.filter(is_event)))
        quarantined.write(as_refused(records.filter(seen["is_rejected"])))
        if order.horizon_micros is not None:
            old.append(_find_old(order, records, is_event, count))
        numbers.append(seen)
        count += len(records)
    return WrittenRecords(
        count, pack(numbers), pack(old), tuple(accepted.close()), tuple(quarantined.close()),
        frozenset(seen_schemas.unresolved), frozenset(seen_schemas.resolved), value_bytes,
    )  # fmt: skip


def _look_at(order: BatchOrder, records: pa.Table, unresolved: frozenset[int]) -> pa.Table:
    mentions = order.forgotten.judge_records(records, order.topic.roles, _find_read_form(order, unresolved))
    event_id = order.topic.roles.event_id
    hashes: list[Any] = []
    if order.horizon_micros is not None and event_id is not None:
        hashes = [*hash_ids(records[event_id]), hash_contents(_open_connection(), order.topic, records)]
    return number_records(order.topic, records, mentions, hashes)


def _find_read_form(order: BatchOrder, unresolved: frozenset[int]) -> ReadForm:
    """Reads rejected records for names of users. What was not opened is not now either: each run judges alike."""
    schemas = order.schemas
    if schemas is not None:
        schemas = replace(schemas, unresolved=(schemas.unresolved or frozenset()) | unresolved)
    read = find_read_form([order.topic], schemas)
    return lambda value: read(value) if len(value) <= order.max_record_bytes else None


def _find_old(order: BatchOrder, records: pa.Table, is_event: pa.Array, before: int) -> pa.Table:
    """The events that may repeat one from before the horizon. `before`: how many records the task has read before."""
    event_id = order.topic.roles.event_id
    assert event_id is not None and order.horizon_micros is not None
    sent = records.select([event_id, "event_time"])
    sent = sent.append_column(NUMBER, pa.array(np.arange(before, before + len(sent))))
    until = order.arrival_micros - order.horizon_micros
    events = sent.filter(is_event)
    return events.filter(pa.array(find_old(events, until)))


@lru_cache(maxsize=1)
def _spare_collector() -> None:
    """Has the garbage collector of a task's process look at a batch's records seldom, and at what is loaded never.

    They are in no cycles, and it looked at all modules again every few thousand records: a quarter of the time.
    """
    if "pyspark.worker" in sys.modules or "pyspark.daemon" in sys.modules:
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)


@lru_cache(maxsize=1)
def _open_connection() -> duckdb.DuckDBPyConnection:
    return open_connection()
