"""Kafka records that hold a JSON list of records: taken apart before they are parsed, and rejected as a whole.

A list with one bad record is one row of quarantine, with the raw bytes of all of it: what is put right and requeued is
a Kafka record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from platform_assets.streaming.ingest.field_values import name_json_type
from platform_assets.streaming.ingest.json_values import parse_json
from platform_assets.streaming.ingest.reasons import MAX_DETAIL_CHARS, Reason, RejectedRecordError
from platform_assets.streaming.ingest.rejected_rows import build_rejected, put_in_order
from platform_assets.streaming.topic_tables import PLACE_IN_LIST as _COLUMNS

if TYPE_CHECKING:
    import numpy.typing as npt

PLACE_IN_LIST = tuple(column.name for column in _COLUMNS)
"""The columns that say where in its list a record is, and how long the list is."""

decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
"""The raw items of a JSON list. Raises what msgspec raises for another text."""


@dataclass(frozen=True)
class ListBatch:
    """A batch of Kafka records, and the records in their lists: `elements`, with `PLACE_IN_LIST`, as a batch like it.

    `rows` says for each element of which row of the batch it is; `broken` has the rows that are no list to be read.
    """

    batch: pa.RecordBatch
    elements: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    broken: dict[int, tuple[str, str]]

    @staticmethod
    def split(batch: pa.RecordBatch, max_bytes: int) -> ListBatch:
        """Takes the lists apart. `max_bytes` is for a whole list."""
        broken: dict[int, tuple[str, str]] = {}
        values: list[bytes] = []
        lengths = np.zeros(len(batch), np.int64)
        for row, value in enumerate(batch.column("value").to_pylist()):
            try:
                found = split_list(value, max_bytes)
            except RejectedRecordError as error:
                broken[row] = (str(error.reason), error.detail)
            else:
                lengths[row] = len(found)
                values += map(bytes, found)
        rows = np.repeat(np.arange(len(batch)), lengths)
        indexes = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = {name: batch.column(name).take(pa.array(rows)) for name in batch.schema.names if name != "value"}
        columns["value"] = pa.array(values, pa.binary())
        places = (indexes, lengths[rows])
        columns |= {name: pa.array(of, pa.int32()) for name, of in zip(PLACE_IN_LIST, places, strict=True)}
        return ListBatch(batch, pa.record_batch(columns), rows, broken)

    def collapse(self, parsed: pa.RecordBatch) -> pa.RecordBatch:
        """The parsed elements, in their order; in the place of those of a rejected list one row, with its raw bytes."""
        rejected = dict(self.broken)
        for place in np.flatnonzero(parsed.column("_reason").is_valid().to_numpy(zero_copy_only=False)).tolist():
            index = self.elements.column(PLACE_IN_LIST[0])[place].as_py()
            reason, detail = (parsed.column(name)[place].as_py() for name in ("_reason", "_detail"))
            rejected.setdefault(int(self.rows[place]), (reason, f"[{index}] {detail}"[:MAX_DETAIL_CHARS]))
        if not rejected:
            return parsed
        rows = sorted(rejected)
        is_kept = ~np.isin(self.rows, rows)
        raw = self.batch.take(pa.array(rows, pa.int64()))
        refused = build_rejected(raw, [rejected[row] for row in rows], parsed.schema)
        return put_in_order([parsed.filter(pa.array(is_kept)), refused], [self.rows[is_kept], np.array(rows, np.int64)])


def split_list(value: bytes | None, max_bytes: int) -> list[msgspec.Raw]:
    """The raw records of a list, at least one. Raises `RejectedRecordError`, whatever the bytes."""
    if value is None:
        raise RejectedRecordError(Reason.TOMBSTONE, "the value is null")
    if len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    try:
        found = decode_list(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        document = parse_json(value)
        if isinstance(document, list):
            raise RejectedRecordError(Reason.NOT_JSON, str(error)) from None
        said = f"the value is a JSON {name_json_type(document)}, not an array of records"
        raise RejectedRecordError(Reason.WRONG_TYPE, said) from None
    if not found:
        raise RejectedRecordError(Reason.BAD_VALUE, "the array has no record")
    return found
