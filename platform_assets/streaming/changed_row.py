"""The record of a topic of change events (`change_events.ChangeEvents`): a row of the source, and its change."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from platform_assets.streaming.change_events import OPERATION, POSITION, SOURCE, TIME, Operation, name_in_json
from platform_assets.streaming.topic_spec import EventTime, Record


class ChangedRow(Record):
    """Base of the rows of a table whose changes a topic has: what each change says of itself comes before the row.

    Rows of one key are ordered by `change_position`, as text. Of deletes and tombstones only the fields of the key are
    sure: the others are what the source sent, and null where that is nothing, or is none of the field's values.
    """

    change_operation: Annotated[
        Operation, Meta(description="create, update, delete, snapshot (read), or tombstone: after a delete")
    ] = field(name=name_in_json(OPERATION))
    change_time: Annotated[int, Meta(description="When the source committed it, microseconds since 1970")] = field(
        name=name_in_json(TIME)
    )
    change_position: Annotated[
        str, Meta(description="Its place in the source's log; where that has none, the Kafka offset. Sorts as text")
    ] = field(name=name_in_json(POSITION))
    change_source: Annotated[
        str | None, Meta(description="JSON: where it comes from, as Debezium says it; null of a tombstone")
    ] = field(name=name_in_json(SOURCE))


CHANGE_TIME = EventTime(TIME, unit="us")
"""The event time of change events: when the source committed the change; of a tombstone when it was sent."""
