"""What a reading means as numbers: samples of the metrics. Pure, and tolerant of hosts of older code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.supervision.lease import HostReport
from jobs.supervision.model import Phase
from jobs.watching import metric_specs as specs
from jobs.watching.metric_specs import MetricSpec
from jobs.watching.platform_reading import GroupReading, PlatformReading, Verdict
from platform_assets.streaming.batch_totals import PARTS

_SEVERITIES = ("error", "warn")


@dataclass(frozen=True)
class Histogram:
    """How many values fell into each bucket (the last one has no upper bound), and the sum of all."""

    counts: Sequence[int]
    total: float


@dataclass(frozen=True)
class Sample:
    """One value of a metric; `labels` in the order of the metric's."""

    metric: MetricSpec
    value: float | Histogram
    labels: tuple[str, ...] = ()


def list_disks(folders: Mapping[str, Path], min_free_bytes: int) -> Iterator[Sample]:
    """The disks under these folders, by the name that the label has; a folder that is not there yet is left out."""
    for name, folder in folders.items():
        if folder.exists():
            yield Sample(specs.DISK_FREE, shutil.disk_usage(folder).free, (name,))
    yield Sample(specs.DISK_LIMIT, min_free_bytes)


def list_samples(reading: PlatformReading, queries: Mapping[str, Sequence[str]], now: float) -> Iterator[Sample]:
    """All samples of a reading. `queries` names those of each group; what a report says of others is left out.

    `now` is seconds since 1970.
    """
    if reading.tick_at is not None:
        yield Sample(specs.TICK_TIMESTAMP, reading.tick_at)
    for group, found in reading.groups.items():
        yield from _list_of_group(group, found, queries[group])
        if found.report is not None:
            yield from _list_of_host(group, found.report)
            for query in queries[group]:
                if (progress := found.report.queries.get(query)) is not None:
                    yield from _list_of_query((group, query), progress, now)
    for verdict in reading.verdicts:
        yield from _list_of_verdict(verdict)


def _list_of_group(group: str, found: GroupReading, queries: Sequence[str]) -> Iterator[Sample]:
    state = found.state
    if state is None or state.phase is None:
        return
    for phase in Phase:
        yield Sample(specs.GROUP_PHASE, phase is state.phase, (group, phase.value))
    yield Sample(specs.GROUP_PHASE_START, state.phase_since, (group,))
    for query in queries:
        yield Sample(specs.PAUSED, query in state.paused_streams, (group, query))


def _list_of_host(group: str, report: HostReport) -> Iterator[Sample]:
    beat = report.heartbeat
    yield Sample(specs.GROUP_STARTS, beat.epoch, (group,))
    yield Sample(specs.HEARTBEAT, beat.at, (group,))
    yield Sample(specs.STALLED, beat.stalled_seconds, (group,))
    for process, used in report.processes.items():
        yield Sample(specs.MEMORY, used["rss_bytes"], (group, process))
        if "cpu_seconds" in used:
            yield Sample(specs.CPU, used["cpu_seconds"], (group, process))


def _list_of_query(labels: tuple[str, str], progress: Mapping[str, Any], now: float) -> Iterator[Sample]:
    yield Sample(specs.ROWS, progress["rows_in"], labels)
    counts = {
        specs.BYTES: "bytes_in", specs.HELD_RECORDS: "held_records", specs.STATE_ROWS: "state_rows",
        specs.STATE_MEMORY: "state_bytes", specs.LATE_PENDING: "late_pending", specs.LATE_REPAIRED: "late_repaired",
    }  # fmt: skip
    moments = {
        specs.LAST_BATCH: "last_commit_at", specs.WATERMARK: "watermark", specs.COMPLETE_UNTIL: "complete_until",
    }  # fmt: skip
    for metric, name in counts.items():
        if (count := progress.get(name)) is not None:
            yield Sample(metric, count, labels)
    for metric, name in moments.items():
        # Spark's watermark is 1970 until it has seen a row.
        if (text := progress.get(name)) is not None and (moment := datetime.fromisoformat(text).timestamp()) > 0:
            yield Sample(metric, moment, labels)
    yield from _list_lag(labels, progress, now)
    if (sink := progress.get("sink")) is not None:
        yield from _list_of_sink(labels, sink, now)
    if (alerts := progress.get("alerts")) is not None:
        yield from _list_of_alerts(labels, alerts, now)
    for verdict, count in (progress.get("verdicts") or {}).items():
        yield Sample(specs.RECORDS, count, (*labels, verdict))
    if totals := progress.get("totals"):
        yield Sample(specs.BATCH_DURATION, Histogram(totals["durations"], totals["seconds"]), labels)
        for part in PARTS:
            yield Sample(specs.BATCH_PARTS, totals["part_seconds"].get(part, 0.0), (*labels, part))


def _list_of_alerts(labels: tuple[str, str], alerts: Mapping[str, Any], now: float) -> Iterator[Sample]:
    counts = {
        specs.ALERTS_OPEN: "open", specs.ALERTS_OPENED: "opened", specs.ALERTS_CLOSED: "closed",
        specs.ALERTS_DELIVERED: "delivered",
    }  # fmt: skip
    for metric, name in counts.items():
        if (count := alerts[name]) is not None:
            yield Sample(metric, count, labels)
    since = alerts["behind_since"]
    seconds = 0.0 if since is None else max(0.0, now - datetime.fromisoformat(since).timestamp())
    yield Sample(specs.ALERTS_LAG_SECONDS, seconds, labels)
    yield Sample(specs.ALERTS_STANDING, bool(alerts["trouble"]), labels)


def _list_of_sink(labels: tuple[str, str], sink: Mapping[str, Any], now: float) -> Iterator[Sample]:
    if sink["version"] is not None:
        yield Sample(specs.SINK_VERSION, sink["version"], labels)
        since = sink["behind_since"]
        seconds = 0.0 if since is None else max(0.0, now - datetime.fromisoformat(since).timestamp())
        yield Sample(specs.SINK_LAG_SECONDS, seconds, labels)
    yield Sample(specs.SINK_ROWS, sink["rows"], labels)
    yield Sample(specs.SINK_STANDING, bool(sink["trouble"]), labels)


def _list_lag(labels: tuple[str, str], progress: Mapping[str, Any], now: float) -> Iterator[Sample]:
    unread = progress.get("unread_records")
    records = progress["lag_records"] if unread is None else unread
    if records is not None:
        yield Sample(specs.LAG_RECORDS, records, labels)
    if unread is not None:
        since = progress.get("unread_since")
        # A producer's clock may be ahead of this one.
        seconds = 0.0 if since is None else max(0.0, now - datetime.fromisoformat(since).timestamp())
        yield Sample(specs.LAG_SECONDS, seconds, labels)


def _list_of_verdict(verdict: Verdict) -> Iterator[Sample]:
    labels = (verdict.table, verdict.check)
    for severity in _SEVERITIES:
        yield Sample(specs.CHECK_FAILED, verdict.severity == severity, (*labels, severity))
    yield Sample(specs.CHECK_VERDICT, verdict.given_at, labels)
    if verdict.seconds_to_loss is not None:
        yield Sample(specs.TIME_TO_LOSS, verdict.seconds_to_loss, (verdict.table,))
