"""Which rows a stream's watermark refused: found again from the log, exactly, and listed in `platform.late_events`.

Spark drops a row of a closed window inside the state operator and counts what is left of it after partial aggregation,
which is too few. Both its watermark and what it read are in the checkpoint, so its verdicts can be repeated: a row is
refused by the watermark of the batch before the one that reads it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from platform_assets.streaming.specs import Column, ResultSpan, TableSource, TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.commit_log import AppendedFile, CommitLog
    from platform_assets.streaming.deduplication import Int64s

LATE_EVENTS = TableSpec(
    name="platform.late_events",
    description="Accepted events that came too late for a stream, and when the stream's table was repaired.",
    grain="query x event that the query's watermark refused",
    key=("query", "topic", "kafka_partition", "kafka_offset"),
    columns=(
        Column("query", "string", "The streaming query that refused it"),
        Column("topic", "string", "Kafka topic"),
        Column("kafka_partition", "int", "Kafka partition"),
        Column("kafka_offset", "bigint", "Offset in the topic partition"),
        Column("event_id", "string", "The event's own id"),
        Column("event_time", "timestamp", "When it happened"),
        Column("user_id", "string", "Who"),
        Column("refused_windows", "bigint", "Windows of the event that were closed; 1 for sessions and pairs"),
        Column("watermark", "timestamp", "The watermark that refused it"),
        Column("batch_id", "bigint", "The micro-batch that read it"),
        Column("refused_at", "timestamp", "Time of that micro-batch"),
        Column("repaired_at", "timestamp", "When the table had it; null until then"),
    ),
    statistics_columns=("query", "event_time", "refused_at", "repaired_at"),
)

_EVENT_COLUMNS = ("topic", "kafka_partition", "kafka_offset", "event_id", "event_time", "user_id")


def find_late_events(
    log: CommitLog, files: list[AppendedFile], source: TableSource, span: ResultSpan, watermark_micros: int
) -> pa.Table:
    """The rows of these files that a query with this watermark refuses: `_EVENT_COLUMNS` and `refused_windows`.

    Reads only files that have a row before the watermark, by the log's statistics.
    """
    import pyarrow as pa

    suspects = [file for file in files if file.from_micros is None or file.from_micros < watermark_micros]
    found = []
    for file in suspects:
        rows = log.read_rows(file.path, _EVENT_COLUMNS, source.event_types)
        refused = count_refused(rows.column(source.time_column).cast(pa.int64()).to_numpy(), span, watermark_micros)
        late = refused > 0
        if late.any():
            found.append(rows.filter(pa.array(late)).append_column("refused_windows", pa.array(refused[late])))
    return pa.concat_tables(found) if found else pa.table({name: [] for name in (*_EVENT_COLUMNS, "refused_windows")})


def count_refused(event_micros: Int64s, span: ResultSpan, watermark_micros: int) -> Int64s:
    """For each event, how many of its windows are closed at a watermark; without windows 1 or 0."""
    if span.window is None:
        refused: Int64s = (event_micros + _micros(span.inactivity) <= watermark_micros).astype(np.int64)
        return refused
    size, slide = (_micros(length) for length in span.window)
    last_end = event_micros // slide * slide + size
    first_end = (event_micros - size) // slide * slide + slide + size
    counts: Int64s = np.maximum((np.minimum(last_end, watermark_micros) - first_end) // slide + 1, 0)
    return counts


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
