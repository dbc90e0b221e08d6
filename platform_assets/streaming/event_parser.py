"""Parses Kafka records into typed rows, vectorised over Arrow batches. Runs inside Spark's Python workers.

One row in, one row out: a record that breaks the contract keeps its raw bytes and gets a `reason`, so that a single
pass over Kafka feeds every table of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from platform_assets.streaming.event_contract import (
    Event,
    RejectedRecordError,
    parse_event,
)

MICROS_PER_DAY = 24 * 3600 * 1_000_000
TEXT_COLUMNS = ("event_id", "event_type", "user_id", "product_id", "product_name", "category", "session_id",
                "device_type", "country")  # fmt: skip
DOUBLE_COLUMNS = ("price", "revenue")

_UTC_MICROS = pa.timestamp("us", tz="UTC")

# A parsed record. A rejected one has a reason and raw bytes, and null event columns.
PARSED_SCHEMA = pa.schema(
    {
        "reason": pa.string(),
        "detail": pa.string(),
        "key": pa.binary(),
        "value": pa.binary(),
        **dict.fromkeys(TEXT_COLUMNS, pa.string()),
        **dict.fromkeys(DOUBLE_COLUMNS, pa.float64()),
        "quantity": pa.int32(),
        "event_time": _UTC_MICROS,
        "event_date": pa.date32(),
        "unknown_fields": pa.string(),
        "kafka_partition": pa.int32(),
        "kafka_offset": pa.int64(),
        "kafka_timestamp": _UTC_MICROS,
    }
)
# Parsed batches cross the JVM as whole Arrow messages: unpacking them into Spark's rows and packing those again for
# the driver would cost more than parsing them.
MESSAGE_DDL = "message binary"
_NO_EVENT = Event("", "page_view", "", "")


def build_parser(arrival_micros: int, max_bytes: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `DataFrame.mapInArrow` over (key, value, partition, offset, timestamp) of Kafka records.

    `arrival_micros` is the micro-batch's own time, the same on every replay, so that a record's verdict is too.
    Returns rows of `MESSAGE_DDL` for `read_messages`, in the order of the input.
    """

    def parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in filter(len, batches):
            message = _parse_batch(batch, arrival_micros, max_bytes).serialize().to_pybytes()
            yield pa.RecordBatch.from_arrays([pa.array([message], pa.binary())], names=["message"])

    return parse_batches


def read_messages(messages: pa.Table) -> pa.Table:
    """The parsed records (`PARSED_SCHEMA`) in collected rows of `MESSAGE_DDL`."""
    column = messages.column("message")
    return pa.Table.from_batches(
        [pa.ipc.read_record_batch(message.as_buffer(), PARSED_SCHEMA) for message in column], PARSED_SCHEMA
    )


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
    return _build_rows(batch, events, times, unknown, rejected)


def _build_rows(
    batch: pa.RecordBatch,
    events: list[Event],
    times: list[int],
    unknown: dict[int, str],
    rejected: dict[int, RejectedRecordError],
) -> pa.RecordBatch:
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
    arrays = [columns[name].cast(PARSED_SCHEMA.field(name).type) for name in PARSED_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=PARSED_SCHEMA)
