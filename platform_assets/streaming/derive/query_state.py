"""How far a query's table is final, and what is not by then: a row of `platform.complete_until`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, open_table
from platform_assets.streaming.moments import EPOCH, MICROSECOND
from platform_assets.tables.platform import COMPLETE_UNTIL

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.checkpoint.checkpoint import Plan
    from platform_assets.streaming.stream_spec import TableStream

# A shop whose devices were all off for a year would have a row of a megabyte otherwise.
_HOURS_NAMED = 24


@dataclass(frozen=True)
class QueryState:
    """How far a query's table is final, after its batch `batch_id`: up to its watermark, and what is not by then.

    `exceptions`: see `name_hours`. They hold up only what they touch: one event that waits for the end of its session
    would keep every other row of the table from being final otherwise.
    `source_version` is the version of its source that it has read, `table_version` its table's version then.
    """

    query: str
    table: str
    watermark: datetime
    pending_late_events: int
    exceptions: str
    batch_id: int
    source_version: int
    table_version: int


def find_watermark(stream: TableStream, plan: Plan) -> int:
    """The event time up to which the stream's rows are final when the batch of this plan is done, in microseconds.

    A query that keeps nothing between two batches has no batch for time alone: Spark's watermark, which each batch has
    from the one before, would stay behind what the last one has read.
    """
    frontier = plan.source["frontier"]
    if not stream.is_latest or frontier is None:
        return plan.watermark_micros
    reached: int = frontier - stream.source.watermark_delay // MICROSECOND
    return max(plan.watermark_micros, reached)


def read_complete_until(
    table_uri: str, query: str, storage_options: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """The query's row of the table `COMPLETE_UNTIL`; None when there is none yet."""
    from deltalake.exceptions import TableNotFoundError

    try:
        table = open_table(table_uri, storage_options)
    except TableNotFoundError:
        return None
    return next((row for row in table.to_pyarrow_table().to_pylist() if row["query"] == query), None)


def name_hours(times: Sequence[datetime]) -> str:
    """JSON of the hours (UTC) in which these times lie and how many in each: `from`, `until`, `late_events`.

    The first hours one by one; what follows them is one range.
    """
    hours = (time.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for time in times)
    return name_counted_hours(Counter(hours))


def name_counted_hours(counts: Mapping[datetime, int]) -> str:
    """What `name_hours` gives for as many times in these hours."""
    hours = sorted(counts.items())
    named = [(hour, hour, count) for hour, count in hours[:_HOURS_NAMED]]
    if rest := hours[_HOURS_NAMED:]:
        named.append((rest[0][0], rest[-1][0], sum(count for _, count in rest)))
    return json.dumps(
        [
            {"from": first.isoformat(), "until": (last + timedelta(hours=1)).isoformat(), "late_events": count}
            for first, last, count in named
        ]
    )


def as_rows(states: list[QueryState]) -> pa.Table:
    """Rows of `COMPLETE_UNTIL`, true now."""
    import pyarrow as pa

    now = datetime.now(UTC)
    rows = [
        {
            "query": state.query,
            "table_name": state.table,
            "complete_until": state.watermark if state.watermark > EPOCH else None,
            "watermark": state.watermark,
            "late_events_pending": state.pending_late_events,
            "exceptions": state.exceptions,
            "batch_id": state.batch_id,
            "source_version": state.source_version,
            "table_version": state.table_version,
            "updated_at": now,
        }
        for state in states
    ]
    return pa.Table.from_pylist(rows, build_arrow_schema(COMPLETE_UNTIL))
