"""Lines of text as Kafka records, for the stream's own parser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa


def as_batch(values: Sequence[bytes | None], arrival: datetime) -> pa.RecordBatch:
    """The values as records of one partition, in order."""
    count = len(values)
    return pa.record_batch(
        {
            "key": pa.nulls(count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([arrival] * count, pa.timestamp("us", tz="UTC")),
        }
    )
