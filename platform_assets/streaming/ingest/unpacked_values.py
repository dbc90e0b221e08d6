"""Unpacks a batch whose values are compressed, or have headers to them; a rejected record gets its raw value back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.compression import (
    Compression,
    NotDecompressibleError,
    TooLargeError,
    decompress,
)
from platform_assets.streaming.formats.frame import find_schema_id
from platform_assets.streaming.formats.registered_schema import SchemaSource, require_source
from platform_assets.streaming.ingest.opened_values import open_texts
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_headers import Headers, add_headers, is_in_binary_mode
from platform_assets.streaming.ingest.rejected_rows import build_rejected, put_in_order
from platform_assets.streaming.topic_spec import CloudEvents, Topic


@dataclass(frozen=True)
class UnpackedBatch:
    """A batch of Kafka records, as they came (`raw`), and with their values unpacked (`batch`).

    `refused` says, by row of `raw`, why a value cannot be; `batch` does not have these rows.
    """

    raw: pa.RecordBatch
    batch: pa.RecordBatch
    refused: Mapping[int, RejectedRecordError]

    def restore(self, parsed: pa.RecordBatch) -> pa.RecordBatch:
        """Parsed records of `batch` (`record_parser.parsed_schema`) and the refused ones, rejected with raw values.

        In the order of `raw`.
        """
        is_rejected = parsed.column("_reason").is_valid()
        if not self.refused and not is_rejected.true_count:
            return parsed
        rows = {place: row for row, place in enumerate(_read_places(self.raw, ""))}
        own = np.array([rows[place] for place in _read_places(parsed, "kafka_")], np.int64)
        raw = self.raw.take(pa.array(own))
        columns = {
            f"_{name}": pc.if_else(is_rejected, raw.column(name), pa.scalar(None, raw.column(name).type))
            for name in ("value", "headers")
            if name in raw.schema.names
        }
        arrays = [columns.get(of.name, parsed.column(of.name)).cast(of.type) for of in parsed.schema]
        restored = pa.RecordBatch.from_arrays(arrays, schema=parsed.schema)
        if not self.refused:
            return restored
        rows_of = np.array(list(self.refused), np.int64)
        refusals = [(str(error.reason), error.detail) for error in self.refused.values()]
        rejected = build_rejected(self.raw.take(pa.array(rows_of)), refusals, parsed.schema)
        return put_in_order([restored, rejected], [own, rows_of])


def unpack(batch: pa.RecordBatch, topic: Topic, max_bytes: int, schemas: SchemaSource | None) -> UnpackedBatch:
    """Unpacks the values of (key, value, partition, offset, timestamp, and headers where the topic has them).

    Decompresses them, reads those that schemas of a registry wrote where headers are to be added, and adds what is in
    their headers. `max_bytes`: of each value, in any form but that of what a schema wrote. Raises what `open_values`
    raises, for a topic of a registry with headers.
    """
    refused: dict[int, RejectedRecordError] = {}
    values: list[bytes | None] = batch.column("value").to_pylist()
    headers: list[Headers] = batch.column("headers").to_pylist() if topic.has_headers else [None] * len(values)
    opened: dict[int, bytes] = {}

    def try_each(change: Callable[[int], bytes | None]) -> None:
        for row in range(len(values)):
            try:
                if row not in refused:
                    values[row] = change(row)
            except RejectedRecordError as error:
                refused[row] = error

    try_each(lambda row: _decompress_one(values[row], topic, max_bytes))
    if topic.has_headers and topic.is_registered:
        opened = _open_framed(values, headers, topic, require_source(topic, schemas), max_bytes, refused)
    if topic.has_headers:
        try_each(lambda row: _add_headers(values[row], headers[row], topic, opened.get(row)))
    left = batch.drop_columns(["headers"]) if topic.has_headers else batch
    left = left.filter(pa.array([row not in refused for row in range(len(batch))])) if refused else left
    kept = [value for row, value in enumerate(values) if row not in refused]
    place = left.schema.get_field_index("value")
    return UnpackedBatch(batch, left.set_column(place, "value", pa.array(kept, pa.binary())), refused)


def _decompress_one(value: bytes | None, topic: Topic, max_bytes: int) -> bytes | None:
    if value is not None and len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    return value if value is None or topic.compression is None else _decompress(value, topic.compression, max_bytes)


def _add_headers(value: bytes | None, headers: Headers, topic: Topic, opened: bytes | None) -> bytes | None:
    """`opened`: the JSON that a framed value stands for."""
    if isinstance(topic.values, CloudEvents):
        return add_headers(value, headers, topic, opened)
    return add_headers(value if opened is None else opened, headers, topic)


def _open_framed(
    values: Sequence[bytes | None], headers: Sequence[Headers], topic: Topic, source: SchemaSource, max_bytes: int,
    refused: dict[int, RejectedRecordError],
) -> dict[int, bytes]:  # fmt: skip
    """The JSON of framed values, by row; adds to `refused` those that cannot be read.

    Of CloudEvents they are data in the binary mode: what is in no frame there has another content type.
    """
    is_event = isinstance(topic.values, CloudEvents)
    rows = []
    for row, value in enumerate(values):
        try:
            is_data = not is_event or (is_in_binary_mode(headers[row]) and find_schema_id(value or b"") is not None)
        except RejectedRecordError as error:
            refused[row] = error
            continue
        if row not in refused and is_data:
            rows.append(row)
    texts, own = open_texts([values[row] for row in rows], topic, source, max_bytes)
    refused |= {rows[place]: error for place, error in own.items()}
    return {rows[place]: text for place, text in texts.items()}


def _decompress(value: bytes, codec: Compression, max_bytes: int) -> bytes:
    try:
        return decompress(value, codec, max_bytes)
    except TooLargeError as error:
        raise RejectedRecordError(Reason.OVERSIZED, f"{error}, at most {max_bytes} are accepted") from None
    except NotDecompressibleError as error:
        raise RejectedRecordError(Reason.NOT_DECOMPRESSIBLE, f"no {codec} value: {error}") from None


def _read_places(records: pa.RecordBatch, prefix: str) -> list[tuple[int, int]]:
    columns = (records.column(f"{prefix}{name}").to_pylist() for name in ("partition", "offset"))
    return list(zip(*columns, strict=True))
