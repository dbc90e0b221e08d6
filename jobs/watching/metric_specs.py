"""Every metric of the platform, as a value: the one list that the endpoint, the docs, the dashboards and alerts go by.

Names follow Prometheus's conventions: a unit at the end, `_total` for what only rises, moments as seconds since 1970
(an age is `time()` minus the metric). Labels take their values from the code and its settings, never from data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricSpec:
    """One metric. A `histogram` has the series `_bucket`, `_sum` and `_count`; `help` says what its value is."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names by which a query finds it."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


_GROUP, _QUERY = ("group",), ("group", "query")

STORAGE_UP = MetricSpec(
    "headrace_storage_up", "gauge", "1 if the storage of Dagster's instance has answered; else all but disks is missing"
)
TICK_TIMESTAMP = MetricSpec(
    "headrace_supervisor_tick_timestamp_seconds", "gauge", "When the supervisor's newest tick began"
)
GROUP_PHASE = MetricSpec(
    "headrace_group_phase",
    "gauge",
    "1 for the phase that the supervisor has last seen the group in, 0 for the others",
    (*_GROUP, "phase"),
)
GROUP_PHASE_START = MetricSpec(
    "headrace_group_phase_start_timestamp_seconds", "gauge", "Since when the group is in this phase", _GROUP
)
GROUP_STARTS = MetricSpec(
    "headrace_group_starts_total", "counter", "How often a run or an operation has taken the group's lease", _GROUP
)
HEARTBEAT = MetricSpec(
    "headrace_host_heartbeat_timestamp_seconds", "gauge", "The newest heartbeat of the group's host", _GROUP
)
STALLED = MetricSpec(
    "headrace_host_stalled_seconds", "gauge", "How long the slowest query has been busy with one batch", _GROUP
)
MEMORY = MetricSpec(
    "headrace_process_resident_memory_bytes",
    "gauge",
    "Memory of host (the run), jvm (Spark), workers (its Python)",
    (*_GROUP, "process"),
)
CPU = MetricSpec(
    "headrace_process_cpu_seconds_total", "counter", "CPU time of the host and of Spark's JVM", (*_GROUP, "process")
)
PAUSED = MetricSpec("headrace_query_paused", "gauge", "1 while a person has paused this stream alone", _QUERY)
ROWS = MetricSpec("headrace_query_rows_total", "counter", "Rows that the query's batches have read", _QUERY)
BYTES = MetricSpec(
    "headrace_query_bytes_total", "counter", "Bytes of the Kafka values that the query's batches have read", _QUERY
)
RECORDS = MetricSpec(
    "headrace_query_records_total",
    "counter",
    "Kafka records by verdict: accepted, quarantined, deduplicated, erased",
    (*_QUERY, "verdict"),
)
BATCH_DURATION = MetricSpec("headrace_batch_duration_seconds", "histogram", "How long each batch took", _QUERY)
BATCH_PARTS = MetricSpec(
    "headrace_batch_part_seconds_total",
    "counter",
    "Time in each part of the batches, as Spark names it",
    (*_QUERY, "part"),
)
LAST_BATCH = MetricSpec(
    "headrace_query_last_batch_timestamp_seconds", "gauge", "When the newest committed batch began", _QUERY
)
LAG_RECORDS = MetricSpec(
    "headrace_query_lag_records", "gauge", "Readable Kafka records that the query has not read", _QUERY
)
LAG_SECONDS = MetricSpec(
    "headrace_query_lag_seconds", "gauge", "Age of the oldest record of the lag; 0 if below ten seconds", _QUERY
)
HELD_RECORDS = MetricSpec(
    "headrace_query_held_records", "gauge", "Kafka records that wait behind an open transaction", _QUERY
)
WATERMARK = MetricSpec("headrace_query_watermark_timestamp_seconds", "gauge", "The query's watermark", _QUERY)
COMPLETE_UNTIL = MetricSpec(
    "headrace_query_complete_until_timestamp_seconds", "gauge", "Up to when the query's table is final", _QUERY
)
STATE_ROWS = MetricSpec("headrace_query_state_rows", "gauge", "Rows in the query's state", _QUERY)
STATE_MEMORY = MetricSpec("headrace_query_state_memory_bytes", "gauge", "Memory of the query's state", _QUERY)
LATE_PENDING = MetricSpec(
    "headrace_query_late_events_pending", "gauge", "Late events that wait for their repair", _QUERY
)
LATE_REPAIRED = MetricSpec(
    "headrace_query_late_events_repaired_total", "counter", "Late events that were repaired", _QUERY
)
SINK_VERSION = MetricSpec(
    "headrace_sink_version", "gauge", "Version of the Delta table that the table in the database is", _QUERY
)
SINK_ROWS = MetricSpec("headrace_sink_rows", "gauge", "Rows of the table in the database", _QUERY)
SINK_LAG_SECONDS = MetricSpec(
    "headrace_sink_lag_seconds",
    "gauge",
    "Age of the oldest commit that the sink has not applied; 0: there is none",
    _QUERY,
)
SINK_STANDING = MetricSpec(
    "headrace_sink_standing",
    "gauge",
    "1 while the sink stands still: the database is away, or a table was changed",
    _QUERY,
)
ALERTS_OPEN = MetricSpec("headrace_alerts_open", "gauge", "Alerts of this kind that are open", _QUERY)
ALERTS_OPENED = MetricSpec("headrace_alerts_opened_total", "counter", "Alerts of this kind that were opened", _QUERY)
ALERTS_CLOSED = MetricSpec("headrace_alerts_closed_total", "counter", "Alerts of this kind that were closed", _QUERY)
ALERTS_DELIVERED = MetricSpec(
    "headrace_alerts_delivered_total", "counter", "What the channel has taken: that alerts open, close, ...", _QUERY
)
ALERTS_LAG_SECONDS = MetricSpec(
    "headrace_alerts_lag_seconds",
    "gauge",
    "Age of the oldest commit that the alert has not looked at, or the channel not told; 0: there is none",
    _QUERY,
)
ALERTS_STANDING = MetricSpec(
    "headrace_alerts_standing", "gauge", "1 while the alert cannot be computed, or the channel takes nothing", _QUERY
)
CHECK_FAILED = MetricSpec(
    "headrace_check_failed",
    "gauge",
    "1 if the newest verdict is a failure of this severity (error, warn)",
    ("table", "check", "severity"),
)
CHECK_VERDICT = MetricSpec(
    "headrace_check_verdict_timestamp_seconds", "gauge", "When the check's newest verdict was given", ("table", "check")
)
TIME_TO_LOSS = MetricSpec(
    "headrace_time_to_loss_seconds",
    "gauge",
    "Until Kafka deletes what is unread, by the check time_to_loss; +Inf: never",
    ("table",),
)
DISK_FREE = MetricSpec("headrace_disk_free_bytes", "gauge", "Free disk under home and a local lakehouse", ("folder",))
DISK_LIMIT = MetricSpec(
    "headrace_disk_min_free_bytes", "gauge", "Free disk below which groups stop (HEADRACE_MIN_FREE_MIB)"
)

METRICS = (
    STORAGE_UP, TICK_TIMESTAMP, GROUP_PHASE, GROUP_PHASE_START, GROUP_STARTS, HEARTBEAT, STALLED, MEMORY, CPU, PAUSED,
    ROWS, BYTES, RECORDS, BATCH_DURATION, BATCH_PARTS, LAST_BATCH, LAG_RECORDS, LAG_SECONDS, HELD_RECORDS, WATERMARK,
    COMPLETE_UNTIL, STATE_ROWS, STATE_MEMORY, LATE_PENDING, LATE_REPAIRED, SINK_VERSION, SINK_ROWS,
    SINK_LAG_SECONDS, SINK_STANDING, ALERTS_OPEN, ALERTS_OPENED, ALERTS_CLOSED, ALERTS_DELIVERED, ALERTS_LAG_SECONDS,
    ALERTS_STANDING, CHECK_FAILED, CHECK_VERDICT, TIME_TO_LOSS, DISK_FREE, DISK_LIMIT,
)  # fmt: skip


def build_table() -> str:
    """The metrics as a table in Markdown, as docs/watching.md has it."""
    rows = [
        f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels)} | {spec.help.replace('|', '/')} |"
        for spec in METRICS
    ]
    return "\n".join(["| metric | type | labels | value |", "|---|---|---|---|", *rows])
