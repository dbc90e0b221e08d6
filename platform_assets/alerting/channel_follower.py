"""One channel at work: follows `platform.alerts`, and tells of its rows, each at least once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.alerting.alert_spec import name_channel_query
from platform_assets.alerting.channels import Channel, Rows
from platform_assets.alerting.log_follower import LogFollower
from platform_assets.sinks.changed_rows import find_changed_rows
from platform_assets.sinks.table_log import LogGapError, Step
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.progress import AlertProgress, QueryProgress
from platform_assets.tables.platform import ALERTS

if TYPE_CHECKING:
    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

# People get this many seconds to read a message before the next one comes: 10,000 alerts are a few messages.
_CALM_SECONDS = 10.0

_log = logging.getLogger(__name__)


class ChannelFollower(LogFollower):
    """See the module. A `Follower`: its methods are called from one thread, its plain values are read from any."""

    def __init__(
        self,
        channel: Channel,
        lakehouse: LakehouseResource,
        engine: DuckDBResource,
        check_lease: Callable[[], None] | None = None,
        calm_seconds: float = _CALM_SECONDS,
    ) -> None:
        query = name_channel_query(channel.name)
        super().__init__(f"The channel {channel.name} of alerts", query, ALERTS.name, lakehouse, check_lease)
        self.delivered = self.rows = self.messages = 0
        self._channel, self._engine = channel, engine
        self._calm_seconds = calm_seconds
        self._sent_at = -calm_seconds
        self._last_commit_at: datetime | None = None

    def advance(self) -> bool:
        """Tells of the next rows; False when there is nothing to tell now.

        Raises `AlertNotTakenError`, what `check_lease` raises, and what the lakehouse's disk or store does.
        """
        if not self._followed.is_open():
            return False
        if self._channel.is_for_people and time.monotonic() - self._sent_at < self._calm_seconds:
            self.note_lag()
            return False
        try:
            step = self._followed.next_step()
            if step is None:
                self.behind_since = None
                self._followed.note()
                return False
            self.behind_since = step.first_committed_at
            told = self._tell(step)
        except LogGapError as error:
            _log.warning(
                "%s cannot follow %s: %s. What was opened and closed meanwhile is not told; the table has it.",
                self.subject, ALERTS.name, error,
            )  # fmt: skip
            self._followed.begin_anew()
            self._followed.note(now=True)
            return True
        self._followed.pass_step(step)
        self._followed.note(now=told > 0)
        return True

    def describe(self, name: str, trouble: str, *, is_busy: bool) -> QueryProgress:
        """How far it is, as `Follower.describe`."""
        behind = None if self.behind_since is None else self.behind_since.astimezone(UTC).isoformat()
        last = None if self._last_commit_at is None else self._last_commit_at.isoformat()
        return QueryProgress(
            query=name, query_id=self._channel.name, batch_id=self.messages, rows_in=self.rows, rows_per_second=0.0,
            lag_records=None, watermark=None, last_commit_at=last, busy=is_busy,
            alerts=AlertProgress(None, None, None, self.delivered, behind, trouble),
            table_versions={} if self.version is None else {ALERTS.name: self.version},
        )  # fmt: skip

    def close(self) -> None:
        """Forgets where it is: the next call of `advance` reads it again."""
        self._followed = self._open_log()

    def _tell(self, step: Step) -> int:
        if not step.added:
            return 0
        schema = build_arrow_schema(ALERTS)
        with find_changed_rows(self._engine, self._followed.log.files, step, ALERTS, schema) as changed:
            rows: Rows = sorted((row for batch in changed.come for row in batch.to_pylist()), key=lambda row: row["at"])
        if not rows:
            return 0
        if self._check_lease is not None:
            self._check_lease()
        told = self._channel.send(rows)
        self.rows += len(rows)
        self.delivered += told
        if told:
            self.messages += 1
            self._sent_at = time.monotonic()
            self._last_commit_at = datetime.now(UTC)
        return told
