"""What an event says: as a number by which two are compared, and as text that is kept. Not where its record lay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.streaming.event_contract import NUMBER_FIELDS
from platform_assets.streaming.event_parser import TEXT_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.deduplication import Int64s

CONTENT = (*TEXT_COLUMNS, *NUMBER_FIELDS, "quantity", "event_time", "unknown_fields")
"""The columns of silver.events that the sender has filled."""

HASH_SQL = f"hash({', '.join(CONTENT)})"
"""SQL of DuckDB: a number that is equal for events of equal content. Stable within one release of DuckDB only."""


def hash_contents(events: pa.Table) -> Int64s:
    """`HASH_SQL` for each of these events (the columns of `CONTENT`)."""
    import duckdb

    # One thread: a batch is small, and threads that are made for it cost more than it does.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("events", events.select(list(CONTENT)))
        found: Any = connection.sql(f"SELECT {HASH_SQL} AS content FROM events").fetchnumpy()["content"]
    return np.asarray(found, dtype=np.uint64).view(np.int64)


def describe_contents(events: pa.Table) -> list[str]:
    """Each event's fields as JSON, those that it has; `unknown_fields` as they were sent."""
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.register("events", events.select(list(CONTENT)))
        fields = ", ".join(f"'{name}', {name}" for name in CONTENT if name != "unknown_fields")
        sql = f"json_merge_patch(json_object({fields}), json_object('unknown_fields', unknown_fields::JSON))"
        return [text for (text,) in connection.sql(f"SELECT {sql} FROM events").fetchall()]
