"""Finds events that were accepted longer ago than the deduplication horizon and now come again.

An event that is sent again, byte for byte, carries the event time of the first. So only records need a look that are
older than the horizon by their own time, and only in the files that hold that time: the cost follows these records, not
the size of the table. Files that came within the horizon are left out, for their ids are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.delta_reader import register_files
from platform_assets.streaming.delta.commit_log import to_micros
from platform_assets.streaming.ingest.deduplication import Known, pack_coordinates
from platform_assets.streaming.ingest.event_content import hash_sql
from platform_assets.streaming.sender_clocks import FAR_MICROS

if TYPE_CHECKING:
    import numpy.typing as npt
    from deltalake import DeltaTable

    from platform_assets.streaming.arrays import Int64s
    from platform_assets.streaming.delta.reader import DeltaReader
    from platform_assets.streaming.topic_spec import Topic

# Delta's statistics end at milliseconds, rounded down.
_ROUNDING_MICROS = 1_000
# No topic has a field of this name: those of its table are in the same query.
_NUMBER = "_number"


def find_old(records: pa.Table, until: int) -> npt.NDArray[np.bool_]:
    """Which events (a mask) may repeat one that was accepted up to a moment (microseconds): all others are younger."""
    # A clock may be ahead by as much when an event is sent first: its time is not older than its arrival.
    return _read_times(records) < until + FAR_MICROS


def find_sent_again(topic: Topic, table: DeltaReader, late: pa.Table, until: int) -> Known | None:
    """Which of these events (id and `event_time`; those of `find_old`) the topic's `table` has; None: none of them.

    `table` holds the accepted events. What came after `until`, within the horizon, does not count, so that a batch that
    is written again gives the same verdicts.
    """
    if not len(late):
        return None
    events, moments = table.read_snapshot(), np.sort(_read_times(late))
    files = [
        action
        for action in pa.table(events.get_add_actions(flatten=True)).to_pylist()
        if _is_older(action, until) and _may_hold(action, moments)
    ]
    rows = _look_up(topic, events, files, late, until) if files else None
    if rows is None:
        return None
    known, numbers = Known.nothing(len(late)), rows[_NUMBER].to_numpy()
    columns = (rows[name].cast(pa.int64()).to_numpy() for name in ("kafka_partition", "kafka_offset"))
    known.coordinates[numbers] = pack_coordinates(*columns)
    known.contents[numbers] = rows["content"].to_numpy().view(np.int64)
    return known


def _read_times(records: pa.Table) -> Int64s:
    times: Int64s = records["event_time"].cast(pa.int64()).to_numpy()
    return times


def _look_up(
    topic: Topic, events: DeltaTable, files: Sequence[Mapping[str, Any]], late: pa.Table, until: int
) -> pa.Table | None:
    """The accepted events that have the id and the time of one of these, with its `_NUMBER` and their content."""
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET timezone = 'UTC'")
        register_files(connection, "accepted", events, files)
        connection.register("late", late.append_column(_NUMBER, pa.array(np.arange(len(late)))))
        same = f'JOIN late USING (event_time, "{topic.roles.event_id}") WHERE ingested_at <= make_timestamptz({until})'
        # Late events are new ones as a rule: only where they are not, more than two columns are read.
        if not connection.sql(f"SELECT 1 FROM accepted {same} LIMIT 1").fetchall():
            return None
        columns = f"{_NUMBER}, kafka_partition, kafka_offset, {hash_sql(topic)} AS content"
        return connection.sql(f"SELECT {columns} FROM accepted {same}").to_arrow_table()


def _is_older(action: Mapping[str, Any], until: int) -> bool:
    arrived = to_micros(action.get("min.ingested_at"))
    return arrived is None or arrived <= until


def _may_hold(action: Mapping[str, Any], moments: Int64s) -> bool:
    """Whether one of these times, in order, lies between the file's first and last."""
    low, high = to_micros(action.get("min.event_time")), to_micros(action.get("max.event_time"))
    if low is None or high is None:
        return True
    first = int(np.searchsorted(moments, low))
    return first < len(moments) and int(moments[first]) <= high + _ROUNDING_MICROS
