"""Unpacks a batch whose values are compressed, or have headers to them; a rejected record gets its raw value back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_headers import Headers, add_headers
from platform_assets.streaming.topic_spec import Topic


@dataclass(frozen=True)
class UnpackedBatch:
    """A batch of Kafka records, as they came (`raw`) and with their values unpacked (`batch`), row by row.

    A value that cannot be unpacked is null in `batch`; `refused` says why, by row.
    """

    raw: pa.RecordBatch
    batch: pa.RecordBatch
    refused: Mapping[int, RejectedRecordError]

    def restore(self, parsed: pa.RecordBatch) -> pa.RecordBatch:
        """Parsed records of `batch` (`record_parser.parsed_schema`): the rejected ones with their raw values."""
        rejected = np.flatnonzero(parsed.column("_reason").is_valid().to_numpy(zero_copy_only=False))
        if not len(rejected):
            return parsed
        rows = {place: row for row, place in enumerate(_read_places(self.raw, ""))}
        places = _read_places(parsed.take(pa.array(rejected)), "kafka_")
        own = {at: rows[place] for at, place in zip(rejected.tolist(), places, strict=True)}
        named = {at: self.refused[row] for at, row in own.items() if row in self.refused}
        rows_of = pa.array([own.get(at) for at in range(len(parsed))], pa.int64())
        names = [name for name in ("value", "headers") if name in self.raw.schema.names]
        columns = {f"_{name}": self.raw.column(name).take(rows_of) for name in names}
        for name, said in (("_reason", "reason"), ("_detail", "detail")):
            given = pa.array([str(getattr(named[at], said)) if at in named else None for at in range(len(parsed))])
            columns[name] = pc.coalesce(given.cast(pa.string()), parsed.column(name))
        arrays = [columns.get(of.name, parsed.column(of.name)).cast(of.type) for of in parsed.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=parsed.schema)


def unpack(batch: pa.RecordBatch, topic: Topic, max_bytes: int) -> UnpackedBatch:
    """Unpacks the values of (key, value, partition, offset, timestamp, and headers where the topic has them).

    Decompresses them, then adds what is in their headers. `max_bytes`: of each value, in any form.
    """
    refused: dict[int, RejectedRecordError] = {}
    values: list[bytes | None] = []
    headers = batch.column("headers").to_pylist() if topic.has_headers else itertools.repeat(None)
    for row, (value, own) in enumerate(zip(batch.column("value").to_pylist(), headers, strict=False)):
        try:
            values.append(_unpack_one(value, own, topic, max_bytes))
        except RejectedRecordError as error:
            refused[row] = error
            values.append(None)
    left = batch.drop_columns(["headers"]) if topic.has_headers else batch
    place = left.schema.get_field_index("value")
    return UnpackedBatch(batch, left.set_column(place, "value", pa.array(values, pa.binary())), refused)


def _unpack_one(value: bytes | None, headers: Headers, topic: Topic, max_bytes: int) -> bytes | None:
    if value is not None and len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    if value is not None and topic.compression is not None:
        value = _decompress(value, topic.compression, max_bytes)
    return add_headers(value, headers, topic) if topic.has_headers else value


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
