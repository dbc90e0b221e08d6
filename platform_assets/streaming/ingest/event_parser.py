"""Parses Kafka records into typed rows, vectorised over Arrow batches. Runs inside Spark's Python workers.

One row in, one row out: a record that breaks the contract keeps its raw bytes and gets a `reason`, so that a single
pass over Kafka feeds every table of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from platform_assets.streaming.event_rules import BLANKS, EventRules
from platform_assets.streaming.ingest.event_contract import (
    EARLIEST_MICROS,
    MAX_AHEAD_MICROS,
    NOT_PLAIN,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    Event,
    RejectedRecordError,
    decode_plain_event,
    multiply_price,
    parse_event,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from platform_assets.streaming.arrays import Int64s

MICROS_PER_DAY = 24 * 3600 * 1_000_000
# `timestamp` becomes `event_time`.
TEXT_COLUMNS = tuple(name for name in TEXT_FIELDS if name != "timestamp")

_UTC_MICROS = pa.timestamp("us", tz="UTC")

# A parsed record. A rejected one has a reason and raw bytes, and null event columns.
PARSED_SCHEMA = pa.schema(
    {
        "reason": pa.string(),
        "detail": pa.string(),
        "key": pa.binary(),
        "value": pa.binary(),
        **dict.fromkeys(TEXT_COLUMNS, pa.string()),
        **dict.fromkeys(NUMBER_FIELDS, pa.float64()),
        "quantity": pa.int32(),
        "event_time": _UTC_MICROS,
        "event_date": pa.date32(),
        "unknown_fields": pa.string(),
        "kafka_partition": pa.int32(),
        "kafka_offset": pa.int64(),
        "kafka_timestamp": _UTC_MICROS,
        "is_anonymous": pa.bool_(),
    }
)
# Parsed batches cross the JVM as whole Arrow messages: unpacking them into Spark's rows and packing those again for
# the driver would cost more than parsing them. Compressed, for the JVM copies each message several times: zstd costs
# 0.3 CPU-s per million records and saves 1 to 2.5, and three quarters of the memory.
MESSAGE_DDL = "message binary, kafka_partition int, until_offset bigint, weight bigint"
_COMPRESSION = "zstd"
# The JVM holds a message in some eight copies at once, Python unpacked, in two: events shrink to a fifth, raw bytes may
# not shrink at all.
_UNPACKED_PER_PACKED = 4
_NO_EVENT = Event("", "page_view", "", "")
# Nearly every shop's spelling. All others that ISO 8601 allows are read one by one.
_USUAL_TIMESTAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"


Parser = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def build_parser(
    arrival_micros: int, max_bytes: int, rules: EventRules, shares: Mapping[int, int] | None = None
) -> Parser:
    """A function for `DataFrame.mapInArrow` over (key, value, partition, offset, timestamp) of Kafka records.

    `arrival_micros` is the micro-batch's own time, the same on every replay, so that a record's verdict is too.
    Returns rows of `MESSAGE_DDL` for `read_messages`, in the order of the input: each a number of records of one
    partition up to an offset, and what they weigh: their bytes as a message, or a fourth of those in memory where that
    is more. `shares` is how much of each partition may be brought along; beyond it rows have no message.
    """

    def parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
        brought = 0
        for batch in filter(len, batches):
            parsed = parse_batch(batch, arrival_micros, max_bytes, rules)
            message = pa.BufferOutputStream()
            with pa.ipc.new_stream(message, PARSED_SCHEMA, options=options) as stream:
                stream.write_batch(parsed)
            packed = message.getvalue()
            weight = max(packed.size, parsed.nbytes // _UNPACKED_PER_PACKED)
            partition, last = (parsed.column(name)[-1].as_py() for name in ("kafka_partition", "kafka_offset"))
            brought += weight
            fits = shares is None or brought <= shares[partition]
            yield pa.record_batch(
                {
                    "message": pa.array([packed.to_pybytes() if fits else None], pa.binary()),
                    "kafka_partition": pa.array([partition], pa.int32()),
                    "until_offset": pa.array([last + 1], pa.int64()),
                    "weight": pa.array([weight], pa.int64()),
                }
            )

    return parse_batches


def count_by_type(events: pa.Table) -> dict[str, int]:
    """Parsed records by their `event_type`."""
    found = pa.compute.value_counts(events.column("event_type")).to_pylist()
    return {item["values"]: item["counts"] for item in found}


def read_messages(messages: pa.Table) -> pa.Table:
    """The parsed records (`PARSED_SCHEMA`) in collected rows of `MESSAGE_DDL`, all of which have a message."""
    parsed = [pa.ipc.open_stream(message.as_buffer()).read_all() for message in messages.column("message")]
    return pa.concat_tables(parsed) if parsed else PARSED_SCHEMA.empty_table()


def parse_batch(batch: pa.RecordBatch, arrival_micros: int, max_bytes: int, rules: EventRules) -> pa.RecordBatch:
    """(key, value, partition, offset, timestamp) of Kafka records as rows of `PARSED_SCHEMA`, in the same order.

    Judges the plain records in bulk, the odd ones by `parse_event`: the same verdicts, a quarter cheaper.
    """
    values = batch.column("value").to_pylist()
    oversized = pa.compute.greater(pa.compute.binary_length(batch.column("value")), max_bytes)
    events: list[Event] = []
    odd: set[int] = set(np.flatnonzero(oversized.fill_null(True)).tolist())
    for row, value in enumerate(values):
        try:
            events.append(_NO_EVENT if row in odd else decode_plain_event(value))
        except NOT_PLAIN:
            events.append(_NO_EVENT)
            odd.add(row)
    micros, is_timely = _read_times([event.timestamp for event in events], arrival_micros)
    odd.update(np.flatnonzero(~is_timely).tolist())
    odd.update(np.flatnonzero(_are_in([event.event_id for event in events], rules.placeholder_ids)).tolist())
    unknown: dict[int, str] = {}
    rejected: dict[int, RejectedRecordError] = {}
    for row in odd:
        try:
            events[row], micros[row], unknown_fields = parse_event(values[row], max_bytes, arrival_micros, rules)
            if unknown_fields is not None:
                unknown[row] = unknown_fields
        except RejectedRecordError as error:
            rejected[row] = error
            events[row], micros[row] = _NO_EVENT, 0
    for event in events if rules.revenue_from_price else ():
        if event.revenue is None and event.event_type == "purchase":
            event.revenue = multiply_price(event)
    return _build_rows(batch, events, micros, unknown, rejected, rules)


def _read_times(timestamps: list[str], arrival_micros: int) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Times of the usual spelling (microseconds since the epoch), and which of them are read and in range."""
    texts = pa.array(timestamps, pa.string())
    is_usual = pa.compute.match_substring_regex(texts, _USUAL_TIMESTAMP)
    try:
        times = pa.compute.if_else(is_usual, texts, pa.scalar(None, pa.string())).cast(_UTC_MICROS)
    except pa.ArrowInvalid:  # a day or an hour that does not exist is among them
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    micros: Int64s = times.cast(pa.int64()).fill_null(0).to_numpy().copy()
    return micros, (micros >= EARLIEST_MICROS) & (micros <= arrival_micros + MAX_AHEAD_MICROS)


def _are_in(texts: list[str], folded: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Which of the texts are among these, as `event_rules.fold_text` compares them."""
    trimmed = pa.compute.utf8_trim(pa.array(texts, pa.string()), characters=BLANKS)
    found: npt.NDArray[np.bool_] = pa.compute.is_in(
        pa.compute.ascii_lower(trimmed), value_set=pa.array(sorted(folded), pa.string())
    ).to_numpy(zero_copy_only=False)
    return found


def _build_rows(
    batch: pa.RecordBatch,
    events: list[Event],
    micros: Int64s,
    unknown: dict[int, str],
    rejected: dict[int, RejectedRecordError],
    rules: EventRules,
) -> pa.RecordBatch:
    rows = len(events)
    mask = np.zeros(rows, dtype=bool)
    mask[list(rejected)] = True
    accepted = pa.array(~mask)
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
        **{name: field(name, pa.float64()) for name in NUMBER_FIELDS},
        "quantity": field("quantity", pa.int32()),
        "event_time": when_accepted(pa.array(micros).cast(_UTC_MICROS)),
        "event_date": when_accepted(pa.array((micros // MICROS_PER_DAY).astype(np.int32)).cast(pa.date32())),
        "unknown_fields": sparse(unknown),
        "kafka_partition": batch.column("partition"),
        "kafka_offset": batch.column("offset"),
        "kafka_timestamp": batch.column("timestamp"),
        "is_anonymous": when_accepted(pa.array(_are_in(list(by_field["user_id"]), rules.anonymous_users))),
    }
    arrays = [columns[name].cast(PARSED_SCHEMA.field(name).type) for name in PARSED_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=PARSED_SCHEMA)
