"""Parses Kafka records into typed rows, vectorised over Arrow batches. Runs inside Spark's Python workers.

One row in, one row out: a record that breaks the contract keeps its raw bytes and gets a `reason`, so that a single
pass over Kafka feeds every table of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from platform_assets.streaming.event_contract import (
    Event,
    RejectedRecordError,
    parse_event,
)

MICROS_PER_DAY = 24 * 3600 * 1_000_000
TEXT_COLUMNS = ("event_id", "event_type", "user_id", "product_id", "product_name", "category", "session_id",
                "device_type", "country")  # fmt: skip
DOUBLE_COLUMNS = ("price", "revenue")

# What `parse_batches` returns, as Spark DDL. A rejected row has a reason and raw bytes, and null event columns.
PARSED_DDL = (
    "reason string, detail string, key binary, value binary, "
    "event_id string, event_type string, event_time timestamp, user_id string, product_id string, "
    "product_name string, category string, price double, quantity int, session_id string, device_type string, "
    "country string, revenue double, unknown_fields string, "
    "kafka_partition int, kafka_offset bigint, kafka_timestamp timestamp, event_date date, arrived_at timestamp"
)
_UTC_MICROS = pa.timestamp("us", tz="UTC")
_NO_EVENT = Event("", "page_view", "", "")


def build_parser(arrival_micros: int, max_bytes: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `DataFrame.mapInArrow` over (key, value, partition, offset, timestamp) of Kafka records.

    `arrival_micros` is the micro-batch's own time, the same on every replay, so that a record's verdict is too.
    Returns rows of `PARSED_DDL`, in the order of the input.
    """

    def parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in filter(len, batches):
            yield _parse_batch(batch, arrival_micros, max_bytes)

    return parse_batches


def _parse_batch(batch: pa.RecordBatch, arrival_micros: int, max_bytes: int) -> pa.RecordBatch:
    events: list[Event] = []
    times: list[int] = []
    unknown: dict[int, str] = {}
    rejected: dict[int, RejectedRecordError] = {}
    values = batch.column("value").to_pylist()
    for row, value in enumerate(values):
        try:
            event, time, unknown_fields = parse_event(value, max_bytes, arrival_micros)
        except RejectedRecordError as error:
            rejected[row] = error
            event, time, unknown_fields = _NO_EVENT, 0, None
        events.append(event)
        times.append(time)
        if unknown_fields is not None:
            unknown[row] = unknown_fields
    columns = _build_columns(batch, events, times, unknown, rejected)
    # A column, not a literal in Spark's plan: generated code with another literal in each micro-batch would be compiled
    # anew each time, for seconds of CPU.
    columns["arrived_at"] = pa.array(np.full(len(batch), arrival_micros)).cast(_UTC_MICROS)
    names = [part.split()[0] for part in PARSED_DDL.split(", ")]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)


def _build_columns(
    batch: pa.RecordBatch,
    events: list[Event],
    times: list[int],
    unknown: dict[int, str],
    rejected: dict[int, RejectedRecordError],
) -> dict[str, pa.Array]:
    rows = len(events)
    mask = np.zeros(rows, dtype=bool)
    mask[list(rejected)] = True
    accepted = pa.array(~mask)
    micros = np.array(times, dtype=np.int64)
    keys, values = batch.column("key"), batch.column("value")

    def when_accepted(array: pa.Array) -> pa.Array:
        return array if not rejected else pa.compute.if_else(accepted, array, pa.scalar(None, array.type))

    def sparse(found: dict[int, str]) -> pa.Array:
        return pa.array([found.get(row) for row in range(rows)], pa.string()) if found else pa.nulls(rows, pa.string())

    def raw(array: pa.Array) -> pa.Array:
        if not rejected:
            return pa.nulls(rows, pa.binary())
        return pa.compute.if_else(accepted, pa.scalar(None, pa.binary()), array.cast(pa.binary()))

    by_field = dict(zip(Event.__struct_fields__, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))

    def field(name: str, of_type: pa.DataType) -> pa.Array:
        return when_accepted(pa.array(by_field[name], of_type))

    columns: dict[str, pa.Array] = {
        "reason": sparse({row: str(error.reason) for row, error in rejected.items()}),
        "detail": sparse({row: error.detail for row, error in rejected.items()}),
        "key": raw(keys),
        "value": raw(values),
        **{name: field(name, pa.string()) for name in TEXT_COLUMNS},
        **{name: field(name, pa.float64()) for name in DOUBLE_COLUMNS},
        "quantity": field("quantity", pa.int32()),
        "event_time": when_accepted(pa.array(micros).cast(_UTC_MICROS)),
        "event_date": when_accepted(pa.array((micros // MICROS_PER_DAY).astype(np.int32)).cast(pa.date32())),
        "unknown_fields": sparse(unknown),
        "kafka_partition": batch.column("partition"),
        "kafka_offset": batch.column("offset"),
        "kafka_timestamp": batch.column("timestamp"),
    }
    columns["revenue"] = when_accepted(pa.compute.fill_null(columns["revenue"], 0.0))
    return columns


def parse_rows(table: pa.Table, arrival_micros: int, max_bytes: int) -> list[dict[str, Any]]:
    """The same parse outside Spark, for tests and replays of small numbers of records."""
    return [
        row for batch in build_parser(arrival_micros, max_bytes)(iter(table.to_batches())) for row in batch.to_pylist()
    ]
