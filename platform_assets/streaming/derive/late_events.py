"""Which rows came too late for a stream: found again from the log, exactly, and listed in `platform.late_events`.

Spark drops a row of a closed window inside the state operator and counts what is left of it after partial aggregation,
which is too few. Both its watermark and what it read are in the checkpoint, so its verdicts can be repeated: a row is
refused by the watermark of the batch before the one that reads it. A row of a session that the watermark has passed may
be late without being refused: its own session would still be open, but the one that it continues was closed and
written before it came. Spark then begins a second one; such rows are listed too.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.result_span import ResultSpan, count_refused, is_continued
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.coordinates import COORDINATES
from platform_assets.tables.platform import LATE_EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.delta.commit_log import AppendedFile, CommitLog

_EVENT_COLUMNS = (*COORDINATES, "event_id", "event_time", "user_id")
# Of a source whose Kafka records hold lists.
_INDEX = "record_index"


def find_late_events(
    log: CommitLog, files: list[AppendedFile], source: TableSource, span: ResultSpan, watermark_micros: int
) -> pa.Table:
    """The rows of these files that may be late at this watermark: columns as in `as_late`, and `refused_windows`.

    0 windows: it is read, and late only if it continues what was closed (`keep_late`). Reads only files that
    have a row up to the watermark, by the log's statistics.
    """
    import pyarrow as pa

    roles = source.table.roles
    own = [name for name in (roles.event_id, roles.user_id) if name is not None]
    names = [*source.table.key, source.time_column, *own]
    suspects = [file for file in files if file.from_micros is None or file.from_micros <= watermark_micros]
    found = []
    for file in suspects:
        rows = as_late(log.read_rows(file.path, names, source.event_types, roles.event_type), source)
        times = rows.column("event_time").cast(pa.int64()).to_numpy()
        refused = count_refused(times, span, watermark_micros)
        # What it may continue ends up to the inactivity before it, so it can be closed already.
        late = (refused > 0) | ((times <= watermark_micros) if span.inactivity else False)
        if late.any():
            found.append(rows.filter(pa.array(late)).append_column("refused_windows", pa.array(refused[late])))
    return pa.concat_tables(found) if found else pa.table({name: [] for name in (*_EVENT_COLUMNS, "refused_windows")})


def as_late(events: pa.Table, source: TableSource) -> pa.Table:
    """Rows of the source as late events are named, for all streams alike: `_EVENT_COLUMNS`, and perhaps `record_index`.

    What the source has no column for is null; what is left out on purpose stays out. Rows of other types than the
    stream's are left out where `events` say their type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    roles = source.table.roles
    if source.event_types and roles.event_type in events.column_names:
        # Files that delta-rs has rewritten hold view types, which few kernels know.
        types = events[roles.event_type].cast(pa.string())
        events = events.filter(pc.is_in(types, value_set=pa.array(source.event_types)))
    names = {"event_time": source.time_column, "event_id": roles.event_id, "user_id": roles.user_id}
    found = {}
    for name in _EVENT_COLUMNS:
        own = names.get(name, name)
        if own is None:
            found[name] = pa.chunked_array([pa.nulls(len(events), pa.string())])
        elif own in events.column_names:
            found[name] = events[own]
    if _INDEX in source.table.key and _INDEX in events.column_names:
        found[_INDEX] = events[_INDEX]
    return pa.table(found)


def build_repairs(stream: TableStream, events: pa.Table, now: datetime, version: int | None = None) -> pa.Table:
    """Rows of `LATE_EVENTS` that have all repaired in which these events are counted, when it is final.

    `events` have the columns of `as_late`, or fewer where nobody is to be named. `version`: the version of the
    stream's source that has them as they are now; without it the one that the query has read.
    """
    import pyarrow as pa

    # Before every batch: it waits for nothing but the end of what counts it.
    known = {
        "query": stream.name, "refused_windows": 0, "batch_id": -1, "refused_at": now, "source_version": version,
    }  # fmt: skip
    schema = build_arrow_schema(LATE_EVENTS)
    columns = {
        field.name: events[field.name]
        if field.name in (*_EVENT_COLUMNS, _INDEX) and field.name in events.column_names
        else pa.repeat(pa.scalar(known.get(field.name), field.type), len(events))
        for field in schema
    }
    return _leave_out_repeated(pa.table(columns).cast(schema))


def _leave_out_repeated(rows: pa.Table) -> pa.Table:
    """The first row of each key: an event that was changed but for its time and user needs one repair, not two."""
    import pyarrow as pa

    numbered = rows.append_column("number", pa.array(range(len(rows)), pa.int64()))
    first = numbered.group_by(list(LATE_EVENTS.key)).aggregate([("number", "min")])["number_min"]
    return rows.take(first.sort())


def keep_late(late: pa.Table, closed: pa.Table, span: ResultSpan) -> pa.Table:
    """Keeps the late events that continue a row of the stream's table (its user and its end)."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("late", late)
        connection.register("closed", closed)
        return connection.sql(
            f"from late where refused_windows > 0 or exists (from closed where {is_continued(span, 'closed', 'late')})"
        ).to_arrow_table()
