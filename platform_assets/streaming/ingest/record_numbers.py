"""The numbers about each record of a batch by which the driver decides: where it lay, when it was, what it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.arrays import to_int64s
from platform_assets.streaming.ingest.deduplication import hash_ids, pack_coordinates
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_parser import parsed_schema
from platform_assets.streaming.register.named_users import Mention
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s

_KEPT = ["kafka_partition", "kafka_offset", "event_time", "kafka_timestamp"]


def number_records(topic: Topic, records: pa.Table, mentions: Any, hashes: Sequence[Int64s]) -> pa.Table:
    """What is kept in memory of parsed records (`record_parser.parsed_schema`), one row each.

    Columns: where and when, `_type` (of the event, where the topic has types), `sender` (a hash
    of whose record it is; 0 where the topic does not say), `is_rejected`, `mention` (how it names a
    forgotten user, `named_users.Mention`), and where anything is deduplicated, the hashes of its event_id and of its
    content: `hash1`, `hash2`, `content` (of a rejected record too, where they mean nothing).
    """
    roles = topic.roles
    added = {
        "sender": pa.nulls(len(records), pa.int64()).fill_null(0)
        if roles.user_id is None
        else _hash_senders(records[roles.user_id]),
        "is_rejected": pa.array(records["_reason"].is_valid().to_numpy() & (mentions == Mention.NONE)),
        "mention": pa.array(mentions, pa.int8()),
        **dict(zip(("hash1", "hash2", "content"), map(pa.array, hashes), strict=False)),
    }
    if roles.event_type is not None:
        added["_type"] = records[roles.event_type]
    numbers = records.select([*_KEPT, *(PLACE_IN_LIST[:1] if topic.is_list else ())])
    for name, values in added.items():
        numbers = numbers.append_column(name, values)
    return numbers


def number_nothing(topic: Topic, *, with_hashes: bool) -> pa.Table:
    """The columns of `number_records` without a record."""
    hashes = [np.empty(0, np.int64)] * 3 if with_hashes and topic.roles.event_id is not None else []
    return number_records(topic, parsed_schema(topic).empty_table(), np.empty(0, np.int8), hashes)


def find_events(numbers: pa.Table) -> pa.Array:
    """Which records are events (a mask), new or repeated: neither rejected nor of a forgotten user."""
    return pa.array(~numbers["is_rejected"].to_numpy() & (numbers["mention"].to_numpy() == Mention.NONE))


def count_by_type(events: pa.Table, type_column: str | None) -> dict[str, int]:
    """Parsed records by their type; all under one name, which is none, where the topic has no types."""
    if type_column is None:
        return {"": len(events)} if len(events) else {}
    return {item["values"]: item["counts"] for item in pc.value_counts(events.column(type_column)).to_pylist()}


def read_coordinates(records: pa.Table) -> Int64s:
    """The coordinates of each record, in the form of `pack_coordinates`."""
    return pack_coordinates(to_int64s(records, "kafka_partition"), to_int64s(records, "kafka_offset"))


def _hash_senders(users: pa.ChunkedArray) -> pa.Array:
    encoded = users.combine_chunks().dictionary_encode()
    senders, _ = hash_ids(pa.chunked_array([encoded.dictionary]))
    return pa.array(senders).take(encoded.indices).fill_null(0)
