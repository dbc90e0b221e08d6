"""Unpacks a batch whose values are compressed, each by itself; a rejected record gets its raw value back."""

from __future__ import annotations

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


@dataclass(frozen=True)
class UnpackedBatch:
    """A batch of Kafka records, as they came (`raw`) and with their values decompressed (`batch`), row by row.

    A value that cannot be is null in `batch`; `refused` says why, by row.
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
        raw = self.raw.column("value").take(pa.array([own.get(at) for at in range(len(parsed))], pa.int64()))
        columns = {"_value": raw.cast(pa.binary())}
        for name, said in (("_reason", "reason"), ("_detail", "detail")):
            given = pa.array([str(getattr(named[at], said)) if at in named else None for at in range(len(parsed))])
            columns[name] = pc.coalesce(given.cast(pa.string()), parsed.column(name))
        arrays = [columns.get(name, parsed.column(name)) for name in parsed.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=parsed.schema)


def unpack(batch: pa.RecordBatch, codec: Compression, max_bytes: int) -> UnpackedBatch:
    """Decompresses the values of (key, value, partition, offset, timestamp). `max_bytes`: of each, in either form."""
    refused: dict[int, RejectedRecordError] = {}
    values: list[bytes | None] = []
    for row, value in enumerate(batch.column("value").to_pylist()):
        try:
            values.append(None if value is None else _unpack_one(value, codec, max_bytes))
        except RejectedRecordError as error:
            refused[row] = error
            values.append(None)
    place = batch.schema.get_field_index("value")
    return UnpackedBatch(batch, batch.set_column(place, "value", pa.array(values, pa.binary())), refused)


def _unpack_one(value: bytes, codec: Compression, max_bytes: int) -> bytes:
    if len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    try:
        return decompress(value, codec, max_bytes)
    except TooLargeError as error:
        raise RejectedRecordError(Reason.OVERSIZED, f"{error}, at most {max_bytes} are accepted") from None
    except NotDecompressibleError as error:
        raise RejectedRecordError(Reason.NOT_DECOMPRESSIBLE, f"no {codec} value: {error}") from None


def _read_places(records: pa.RecordBatch, prefix: str) -> list[tuple[int, int]]:
    columns = (records.column(f"{prefix}{name}").to_pylist() for name in ("partition", "offset"))
    return list(zip(*columns, strict=True))
