"""A stream's life in Dagster's event log, at a bounded cost.

An asset event costs 9 kB on disk for ever: stored twice, a page each. So: one event per stream on its first commit,
then at most one each half hour, a materialization when batches were committed since the last, else an observation
(which shows that an idle stream lives, and never triggers anything downstream). Side tables only when their version
moved. And one event a day, when the day is closed: reports follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.reports.days import CLOSED_DAYS_KEY, FIRST_DAY, ONE_DAY, closed_days_key
from platform_assets.streaming.stream_spec import Stream, StreamGroup, select_derived

if TYPE_CHECKING:
    from platform_assets.streaming.progress import QueryProgress

# Eight tables each five minutes were 22 MB a day, each ten minutes 11 MB. And each materialization is followed by the
# ledger's checks, 0.15 MB for a run of six.
EVENT_INTERVAL_SECONDS = 1800.0

# A group's last closed day is looked for in pages, newest first, until it is found. Other groups close days too, and
# people report events by hand: a search that ended with the first fifty was ended by fifty of theirs.
_EVENTS_OF_ONE_PAGE = 100
_PAGES_SEARCHED = 100

# A group that comes back after years closed them in one heartbeat: 2,612 events, 23 MB of log, and supervision waited.
_DAYS_OF_ONE_HEARTBEAT = 10

_GROUP = "headrace/group"

AssetEvent = dg.AssetMaterialization | dg.AssetObservation


@dataclass(frozen=True)
class _Logged:
    """What the last event of a stream said, and when."""

    at: float
    batch_id: int
    rows_in: int
    versions: Mapping[str, int]
    is_materialization: bool


class TableEvents:
    """Turns progress into asset events. One instance a run; `publish` is called with every heartbeat."""

    def __init__(
        self,
        streams: Sequence[Stream],
        log_event: Callable[[AssetEvent], None],
        group: str = "",
        closed_day: date | None = None,
        first_day: date = FIRST_DAY,
        days_key: dg.AssetKey = CLOSED_DAYS_KEY,
    ) -> None:
        """`closed_day`: the last one that the group has closed (`read_closed_day`), by events of `days_key`.

        Days before `first_day` have no report that follows them, and are closed without a word.
        """
        self._streams = {stream.name: stream for stream in streams}
        self._log_event = log_event
        self._group = group
        self._closed_day = closed_day
        self._days_key = days_key
        self._first_day = first_day
        derived = select_derived(streams)
        self._closing = frozenset(stream.name for stream in derived)
        self._longest_open = max((stream.span.longest_open for stream in derived), default=timedelta(0))
        self._logged: dict[str, _Logged] = {}

    @classmethod
    def of_run(cls, group: StreamGroup, context: dg.OpExecutionContext, first_day: date = FIRST_DAY) -> TableEvents:
        """The events of a run that hosts the group; they go on after the last day that the group has closed."""
        days_key = closed_days_key(group.closed_days)
        closed_day = read_closed_day(context.instance, group.name, days_key)
        return cls(group.streams, context.log_event, group.name, closed_day, first_day, days_key)

    def publish(self, progress: Mapping[str, QueryProgress], now: float) -> None:
        """Logs what is due. `now` is a monotonic clock in seconds."""
        for name, facts in progress.items():
            stream = self._streams.get(name)
            if stream is not None and facts.last_commit_at is not None:
                self._publish_stream(stream, facts, now)
        self._publish_closed_days(progress)

    def _publish_closed_days(self, progress: Mapping[str, QueryProgress]) -> None:
        """A day is closed when every stream's table is complete beyond what may still be open at the day's end.

        Days in which nobody looked are closed with the next heartbeats, `_DAYS_OF_ONE_HEARTBEAT` with each.
        """
        complete = [facts.complete_until for name, facts in progress.items() if name in self._closing]
        known = [datetime.fromisoformat(moment) for moment in complete if moment is not None]
        if not known or len(known) < len(self._closing):
            return
        last = (min(known) - self._longest_open).date() - ONE_DAY
        # What was before the first closed day that anybody saw is history: a backfill's, or the nightly run's.
        day = max(self._first_day, last if self._closed_day is None else self._closed_day + ONE_DAY)
        last = min(last, day + (_DAYS_OF_ONE_HEARTBEAT - 1) * ONE_DAY)
        while day <= last:
            self._log_event(dg.AssetMaterialization(self._days_key, partition=str(day), metadata=self._name_group()))
            self._closed_day = day
            day += ONE_DAY

    def _name_group(self) -> dict[str, str]:
        return {_GROUP: self._group}

    def _publish_stream(self, stream: Stream, facts: QueryProgress, now: float) -> None:
        before = self._logged.get(stream.name)
        moved = before is None or facts.batch_id > before.batch_id
        first_commit = moved and (before is None or not before.is_materialization)
        if not first_commit and before is not None and now - before.at < EVENT_INTERVAL_SECONDS:
            return
        main = dg.AssetKey(stream.main_table.asset_path)
        metadata = _metadata(stream.main_table.name, facts, facts.rows_in - (before.rows_in if before else 0))
        if moved:
            self._log_event(dg.AssetMaterialization(main, metadata=metadata))
        else:
            self._log_event(dg.AssetObservation(main, metadata=metadata))
        versions = before.versions if before is not None else {}
        for table in stream.tables[1:]:
            version = facts.table_versions.get(table.name)
            if version is not None and version != versions.get(table.name):
                side = {"delta/version": version, "spark/batch_id": facts.batch_id}
                self._log_event(dg.AssetMaterialization(dg.AssetKey(table.asset_path), metadata=side))
        was_materialized = moved or (before is not None and before.is_materialization)
        self._logged[stream.name] = _Logged(
            now, facts.batch_id, facts.rows_in, dict(facts.table_versions), was_materialized
        )


def read_closed_day(instance: dg.DagsterInstance, group: str, days_key: dg.AssetKey = CLOSED_DAYS_KEY) -> date | None:
    """The last day that the group has closed, as the event log says; None when it has closed none.

    Events that somebody else has reported are passed over: without our metadata, with metadata of another type, without
    a partition or with one that is no day or lies ahead. At most `_EVENTS_OF_ONE_PAGE * _PAGES_SEARCHED` events are
    read.
    """
    cursor: str | None = None
    for _ in range(_PAGES_SEARCHED):
        page = instance.fetch_materializations(days_key, limit=_EVENTS_OF_ONE_PAGE, cursor=cursor)
        days = [day for record in page.records if (day := _closed_by(record, group)) is not None]
        if days or not page.has_more:
            return max(days, default=None)
        cursor = page.cursor
    return None


def _closed_by(record: dg.EventLogRecord, group: str) -> date | None:
    """The day that the group has closed with this event; None when the event is another's."""
    event = record.asset_materialization
    said = None if event is None else event.metadata.get(_GROUP)
    if not isinstance(said, dg.TextMetadataValue) or said.text != group:
        return None
    try:
        day = date.fromisoformat(record.partition_key or "")
    except ValueError:
        return None
    # A copied event with a day of the future would keep all days until then from being closed.
    return day if day <= datetime.now(UTC).date() + ONE_DAY else None


def _metadata(table: str, facts: QueryProgress, rows: int) -> dict[str, int | float | str]:
    """Numbers stay numbers: the UI plots int and float entries only. `rows`: read since the event before this one."""
    metadata: dict[str, int | float | str] = {
        "spark/batch_id": facts.batch_id,
        "spark/rows": rows,
        "spark/rows_per_second": round(float(facts.rows_per_second), 3),
    }
    if facts.lag_records is not None:
        metadata["kafka/lag_records"] = facts.lag_records + facts.held_records
        metadata["kafka/behind_open_transactions"] = facts.held_records
    if facts.watermark is not None:
        metadata["spark/watermark"] = facts.watermark
    if (version := facts.table_versions.get(table)) is not None:
        metadata["delta/version"] = version
    if facts.last_commit_at is not None:
        metadata["spark/last_commit_at"] = facts.last_commit_at
    return metadata
