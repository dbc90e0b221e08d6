"""What an event says: as a number by which two are compared, and as text that is kept. Not where its record lay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from platform_assets.streaming.arrays import Int64s

_UNKNOWN = "unknown_fields"


def list_content(topic: Topic) -> list[str]:
    """The columns of the topic's table that the sender has filled."""
    fields = [field.name for field in topic.fields if field.name != topic.event_time.field]
    return [*fields, "event_time", _UNKNOWN]


def hash_sql(topic: Topic) -> str:
    """SQL of DuckDB: a number that is equal for events of equal content. Stable within one release of DuckDB only."""
    return f"hash({', '.join(topic.compared_as.get(name, _quoted(name)) for name in list_content(topic))})"


def open_connection() -> duckdb.DuckDBPyConnection:
    """A connection for `hash_contents`: to open one takes longer than to hash a batch."""
    import duckdb

    # One thread: a batch is small, and threads that are made for it cost more than it does.
    return duckdb.connect(config={"threads": 1})


def hash_contents(connection: duckdb.DuckDBPyConnection, topic: Topic, events: pa.Table) -> Int64s:
    """`hash_sql` for each of these events (the columns of `list_content`)."""
    connection.register("events", events.select(list_content(topic)))
    found: Any = connection.sql(f"SELECT {hash_sql(topic)} AS content FROM events").fetchnumpy()["content"]
    connection.unregister("events")
    return np.asarray(found, dtype=np.uint64).view(np.int64)


def describe_contents(topic: Topic, events: pa.Table) -> list[str]:
    """Each event's fields as JSON, those that it has; `unknown_fields` to the letter as it was sent."""
    return [_describe(row) for row in events.select(list_content(topic)).to_pylist()]


def _describe(event: Mapping[str, Any]) -> str:
    known = {name: value for name, value in event.items() if value is not None and name != _UNKNOWN}
    fields = [f"{json.dumps(name)}: {json.dumps(value, default=_spell)}" for name, value in known.items()]
    if event[_UNKNOWN] is not None:
        fields.append(f"{json.dumps(_UNKNOWN)}: {event[_UNKNOWN]}")
    return f"{{{', '.join(fields)}}}"


def _spell(value: Any) -> str:
    """What JSON has no type for."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else bytes(value).hex()


def _quoted(name: str) -> str:
    return f'"{name}"'
