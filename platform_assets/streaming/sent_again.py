"""Finds events that were accepted longer ago than the deduplication horizon and now come again.

An event that is sent again, byte for byte, carries the event time of the first. So only records need a look that are
older than the horizon by their own time, and only in the files that hold that time: the cost follows these records, not
the size of the table. Files that came within the horizon are left out, for their ids are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.delta_reader import register_files
from platform_assets.streaming.deduplication import AcceptedIds, hash_ids, pack_coordinates
from platform_assets.streaming.event_content import HASH_SQL

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

    from platform_assets.streaming.batch_table import BatchTable
    from platform_assets.streaming.deduplication import Int64s

# A clock may be ahead by as much when an event is sent first (see `frontier`): its time is not older than its arrival.
_AHEAD_MICROS = 5 * 60_000_000
# Records further apart are looked for by themselves: one of the year 2000 would have all files since read.
_PAUSE_MICROS = 10 * 60_000_000
# Delta's statistics end at milliseconds, rounded down.
_ROUNDING_MICROS = 1_000


def find_sent_again(
    table: BatchTable, records: pa.Table, arrival_micros: int, horizon_micros: int
) -> AcceptedIds | None:
    """Of `records` (`event_id`, `event_time`), those that `table` has from before the horizon; None: there are none.

    `table` holds the accepted events; coordinates and contents are theirs. They count as accepted just before
    `arrival_micros`, so that a batch that is written again gives the same verdicts.
    """
    times: Int64s = records["event_time"].cast(pa.int64()).to_numpy()
    until = arrival_micros - horizon_micros
    is_old = times < until + _AHEAD_MICROS
    if not is_old.any():
        return None
    late, events = records.filter(pa.array(is_old)), table.read_snapshot()
    files = [
        action
        for action in pa.table(events.get_add_actions(flatten=True)).to_pylist()
        if (arrived := _micros(action.get("min.ingested_at"))) is None or arrived <= until
    ]
    found = [rows for part in _split(late, times[is_old]) if (rows := _look_up(events, files, part, until)) is not None]
    if not found:
        return None
    rows = pa.concat_tables(found)
    columns = (rows[name].cast(pa.int64()).to_numpy() for name in ("kafka_partition", "kafka_offset"))
    arrivals = np.full(len(rows), arrival_micros - 1, dtype=np.int64)
    contents = rows["content"].to_numpy().view(np.int64)
    return AcceptedIds.of(*hash_ids(rows["event_id"]), pack_coordinates(*columns), arrivals, contents)


def _split(late: pa.Table, times: Int64s) -> list[pa.Table]:
    order = np.argsort(times)
    cuts = np.flatnonzero(np.diff(times[order]) > _PAUSE_MICROS) + 1
    return [late.take(pa.array(part)) for part in np.split(order, cuts)]


def _look_up(events: DeltaTable, files: Sequence[Mapping[str, Any]], late: pa.Table, until: int) -> pa.Table | None:
    """The accepted events that have the id and the time of one of these."""
    import duckdb
    import pyarrow.compute as pc

    first, last = pc.min_max(late["event_time"].cast(pa.int64())).as_py().values()
    near = [action for action in files if _may_hold(action, first, last)]
    if not near:
        return None
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET timezone = 'UTC'")
        register_files(connection, "accepted", events, near)
        connection.register("late", late)
        return _join(connection, _timestamp(first), _timestamp(last), _timestamp(until))


def _join(connection: duckdb.DuckDBPyConnection, first: str, last: str, until: str) -> pa.Table | None:
    rows = connection.sql(f"""
        SELECT event_id, kafka_partition, kafka_offset, {HASH_SQL} AS content
        FROM accepted SEMI JOIN late USING (event_time, event_id)
        WHERE event_time BETWEEN {first} AND {last} AND ingested_at <= {until}""").to_arrow_table()
    return rows if len(rows) else None


def _may_hold(action: Mapping[str, Any], first: int, last: int) -> bool:
    low, high = _micros(action.get("min.event_time")), _micros(action.get("max.event_time"))
    return low is None or high is None or (low <= last and high + _ROUNDING_MICROS >= first)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.astimezone(UTC).timestamp() * 1e6)


def _timestamp(micros: int) -> str:
    return f"make_timestamptz({micros})"
