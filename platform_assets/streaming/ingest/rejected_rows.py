"""Rows of records that are rejected before they are parsed, and batches that are put together in the records' order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from platform_assets.streaming.arrays import Int64s


def build_rejected(raw: pa.RecordBatch, refusals: Sequence[tuple[str, str]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of `record_parser.parsed_schema` of these Kafka records, with a reason and a detail for each."""
    known = {f"_{name}": raw.column(name) for name in ("key", "value", "headers") if name in raw.schema.names}
    known |= {f"kafka_{name}": raw.column(name) for name in ("partition", "offset", "timestamp")}
    for number, name in enumerate(("_reason", "_detail")):
        known[name] = pa.array([refusal[number] for refusal in refusals], pa.string())
    arrays = [known[of.name].cast(of.type) if of.name in known else pa.nulls(len(raw), of.type) for of in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def put_in_order(parts: Sequence[pa.RecordBatch], rows: Sequence[Int64s]) -> pa.RecordBatch:
    """The rows of all parts in the order of the batch's rows that they are of: `rows`, part after part."""
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_batches(list(parts)).take(pa.array(order))
