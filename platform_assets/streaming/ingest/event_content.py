"""What an event says: as a number by which two are compared, and as text that is kept. Not where its record lay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.streaming.ingest.event_contract import NUMBER_FIELDS
from platform_assets.streaming.ingest.event_parser import TEXT_COLUMNS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from platform_assets.streaming.arrays import Int64s

_UNKNOWN = "unknown_fields"
CONTENT = (*TEXT_COLUMNS, *NUMBER_FIELDS, "quantity", "event_time", _UNKNOWN)
"""The columns of silver.events that the sender has filled."""

# Older code had 0 where no revenue was sent.
_COMPARED = ("coalesce(revenue, 0)" if name == "revenue" else name for name in CONTENT)
HASH_SQL = f"hash({', '.join(_COMPARED)})"
"""SQL of DuckDB: a number that is equal for events of equal content. Stable within one release of DuckDB only."""


def open_connection() -> duckdb.DuckDBPyConnection:
    """A connection for `hash_contents`: to open one takes longer than to hash a batch."""
    import duckdb

    # One thread: a batch is small, and threads that are made for it cost more than it does.
    return duckdb.connect(config={"threads": 1})


def hash_contents(connection: duckdb.DuckDBPyConnection, events: pa.Table) -> Int64s:
    """`HASH_SQL` for each of these events (the columns of `CONTENT`)."""
    connection.register("events", events.select(list(CONTENT)))
    found: Any = connection.sql(f"SELECT {HASH_SQL} AS content FROM events").fetchnumpy()["content"]
    connection.unregister("events")
    return np.asarray(found, dtype=np.uint64).view(np.int64)


def describe_contents(events: pa.Table) -> list[str]:
    """Each event's fields as JSON, those that it has; `unknown_fields` to the letter as it was sent."""
    return [_describe(row) for row in events.select(list(CONTENT)).to_pylist()]


def _describe(event: Mapping[str, Any]) -> str:
    known = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in event.items()
        if value is not None and name != _UNKNOWN
    }
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in known.items()]
    if event[_UNKNOWN] is not None:
        fields.append(f"{json.dumps(_UNKNOWN)}: {event[_UNKNOWN]}")
    return f"{{{', '.join(fields)}}}"
