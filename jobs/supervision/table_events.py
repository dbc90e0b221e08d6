"""A stream's life in Dagster's event log, at a bounded cost.

An asset event costs 4.5 to 8.7 kB on disk for ever. So: one event per stream on its first commit, then at most one
each five minutes, a materialization when batches were committed since the last, else an observation (which shows that
an idle stream lives, and never triggers anything downstream). Side tables only when their version moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.streaming.specs import StreamSpec

if TYPE_CHECKING:
    from platform_assets.streaming.progress import QueryProgress

EVENT_INTERVAL_SECONDS = 300.0

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

    def __init__(self, streams: Sequence[StreamSpec], log_event: Callable[[AssetEvent], None]) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._log_event = log_event
        self._logged: dict[str, _Logged] = {}

    def publish(self, progress: Mapping[str, QueryProgress], now: float) -> None:
        """Logs what is due. `now` is a monotonic clock in seconds."""
        for name, facts in progress.items():
            stream = self._streams.get(name)
            if stream is not None and facts.last_commit_at is not None:
                self._publish_stream(stream, facts, now)

    def _publish_stream(self, stream: StreamSpec, facts: QueryProgress, now: float) -> None:
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


def _metadata(table: str, facts: QueryProgress, rows: int) -> dict[str, int | float | str]:
    """Numbers stay numbers: the UI plots int and float entries only. `rows`: read since the event before this one."""
    metadata: dict[str, int | float | str] = {
        "spark/batch_id": facts.batch_id,
        "spark/rows": rows,
        "spark/rows_per_second": round(float(facts.rows_per_second), 3),
    }
    if facts.lag_records is not None:
        metadata["kafka/lag_records"] = facts.lag_records
    if facts.watermark is not None:
        metadata["spark/watermark"] = facts.watermark
    if (version := facts.table_versions.get(table)) is not None:
        metadata["delta/version"] = version
    if facts.last_commit_at is not None:
        metadata["spark/last_commit_at"] = facts.last_commit_at
    return metadata
