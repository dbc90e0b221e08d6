"""The rows of a topic's three tables, from its parsed records (`record_parser.parsed_schema`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.arrays import Int64s
from platform_assets.streaming.ingest.deduplication import OFFSET_BITS
from platform_assets.streaming.ingest.event_clock import UTC_MICROS
from platform_assets.streaming.ingest.event_content import describe_contents
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_parser import REFUSALS
from platform_assets.streaming.topic_spec import Topic
from platform_assets.tables.coordinates import COORDINATES

ARRIVED = "_arrived_at"
_RECORD = {name: name for name in (*COORDINATES, "kafka_timestamp")}


def add_arrival(records: pa.Table, topic: str, arrival_micros: int) -> pa.Table:
    """The records of a topic of this name with `topic` and the time of their batch, `ARRIVED`."""
    arrived = pa.repeat(pa.scalar(arrival_micros, pa.int64()).cast(UTC_MICROS), len(records))
    return records.append_column("topic", pa.repeat(topic, len(records))).append_column(ARRIVED, arrived)


def as_accepted(records: pa.Table) -> pa.Table:
    """Rows of the table of accepted records."""
    return records.drop_columns(_find_refusals(records)).rename_columns({ARRIVED: "ingested_at"})


def as_refused(records: pa.Table) -> pa.Table:
    """Rows of the quarantine."""
    own = {name: name.removeprefix("_") for name in _find_refusals(records)}
    return _take(records, _RECORD | own | {ARRIVED: "quarantined_at"})


def _find_refusals(records: pa.Table) -> list[str]:
    return [name for name in REFUSALS if name in records.schema.names]


def as_repeated(topic: Topic, accepted: pa.Table, kept: Int64s, is_same: pa.Array) -> pa.Table:
    """Rows of the table of repeated records, from rows as of accepted ones.

    `kept`: the packed coordinates of the record that each repeats. `is_same`: whether both say the same; if not, the
    row has what the repetition says and whose it is.
    """
    others = iter(describe_contents(topic, accepted.filter(pc.invert(is_same))))
    added = {
        "kept_topic": accepted.column("topic"),
        "kept_partition": pa.array(kept >> OFFSET_BITS).cast(pa.int32()),
        "kept_offset": pa.array(kept & np.int64((1 << OFFSET_BITS) - 1)),
        "is_same_content": is_same,
        "content": pa.array([None if same else next(others) for same in is_same.to_pylist()], pa.string()),
    }
    if topic.roles.user_id is not None:
        users = accepted.column(topic.roles.user_id)
        added["other_user_id"] = pc.if_else(is_same, pa.scalar(None, pa.string()), users)
    else:
        added["other_user_id"] = pa.nulls(len(accepted), pa.string())
    in_list = {name: name for name in PLACE_IN_LIST if topic.is_list}
    rows = _take(accepted, _RECORD | in_list | {"ingested_at": "deduplicated_at"})
    added["event_id"] = accepted.column(topic.roles.event_id)
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows


def _take(records: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """These columns under other names. The others may be fields that have those names."""
    return records.select(list(names)).rename_columns(list(names.values()))
