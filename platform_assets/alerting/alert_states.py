"""Which alerts of one kind are open, and what rows, and time, make of them. Pure: no clock, no table.

A key has one open alert at most. What it opens, repeats and closes are transitions, the rows of `platform.alerts`: an
alert's rows are the sum of its transitions' rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from platform_assets.alerting.alert_spec import AlertSpec
from platform_assets.alerting.raised_rows import Raised

OPENED, REPEATED, CLOSED, ACKNOWLEDGED = "opened", "repeated", "closed", "acknowledged"

# Each open alert takes half a kilobyte of the host's memory, and one row of `platform.alerts` a minute while it is
# raised. A condition that a million keys meet is one alert more, of all the others.
MOST_OPEN = 20_000
THE_OTHERS = "(others)"
# An alert without `quiet` ends by a row of its key, which that of all the others does not have.
_OTHERS_QUIET = timedelta(minutes=10)


@dataclass(frozen=True)
class Transition:
    """One row of `platform.alerts`, but for what is the same in all rows of its commit.

    `rows` have raised the alert since the transition before. `raised_at`: when the newest of them was committed.
    """

    alert_id: str
    key: str
    transition: str
    rows: int
    text: str
    user: str | None
    event_time: datetime | None
    raised_at: datetime


@dataclass
class OpenAlert:
    """An alert that is open. `pending_rows` have raised it and are in no transition yet."""

    alert_id: str
    key: str
    text: str
    user: str | None
    event_time: datetime | None
    raised_at: datetime
    pending_rows: int = 0


class AlertStates:
    """The open alerts of one kind, and when the last ones closed. Used by one thread."""

    def __init__(self, spec: AlertSpec, most_open: int = MOST_OPEN) -> None:
        self.open: dict[str, OpenAlert] = {}
        self._spec = spec
        self._most_open = most_open
        self._closed_at: dict[str, datetime] = {}
        self._pending: set[str] = set()

    @property
    def has_pending(self) -> bool:
        """Whether rows have raised open alerts that are in no transition yet."""
        return bool(self._pending)

    def restore(self, open_alerts: Iterable[OpenAlert], closed_at: Iterable[tuple[str, datetime]]) -> None:
        """Begins with what `platform.alerts` says."""
        self.open = {alert.key: alert for alert in open_alerts}
        self._closed_at = dict(closed_at)

    def take(self, raised: Iterable[Raised], version: int, committed_at: datetime) -> Iterator[Transition]:
        """What some rows, committed with this version, open and close, in the order of the keys."""
        for each in raised:
            key = each.key
            if key not in self.open and each.rows and len(self.open) >= self._most_open:
                key = THE_OTHERS
            if each.rows and key in self.open:
                self._repeat(self.open[key], each.rows, committed_at)
            elif each.rows and not self._is_cooling(key, committed_at):
                yield self._open(key, each, version, committed_at)
            # The alert of all the others is over when nothing raises it any more.
            if each.is_over and key in self.open and key != THE_OTHERS and not _is_older(each, self.open[key]):
                yield self._close(self.open[key], committed_at)

    def close_quiet(self, now: datetime) -> Iterator[Transition]:
        """Closes what nothing has raised for `quiet`. To be called when all commits until `now` were taken."""
        for alert in list(self.open.values()):
            limit = self._spec.quiet or (_OTHERS_QUIET if alert.key == THE_OTHERS else None)
            if limit is not None and now - alert.raised_at >= limit:
                yield self._close(alert, now)
        cooled = [key for key in self._closed_at if not self._is_cooling(key, now)]
        for key in cooled:
            del self._closed_at[key]

    def flush(self) -> Iterator[Transition]:
        """The rows that have raised open alerts and are in no transition yet."""
        for key in sorted(self._pending):
            alert = self.open[key]
            yield _describe(alert, REPEATED, alert.pending_rows)
            alert.pending_rows = 0
        self._pending.clear()

    def _repeat(self, alert: OpenAlert, rows: int, committed_at: datetime) -> None:
        alert.pending_rows += rows
        alert.raised_at = max(alert.raised_at, committed_at)
        self._pending.add(alert.key)

    def _open(self, key: str, each: Raised, version: int, committed_at: datetime) -> Transition:
        text = each.text
        if key == THE_OTHERS:
            text = f"{self._most_open:,} alerts {self._spec.name} are open: those of all further keys are this one."
        alert_id = _identify(self._spec.name, key, version)
        user = None if key == THE_OTHERS else each.user
        alert = self.open[key] = OpenAlert(alert_id, key, text, user, each.event_time, committed_at)
        self._closed_at.pop(key, None)
        return _describe(alert, OPENED, each.rows)

    def _close(self, alert: OpenAlert, at: datetime) -> Transition:
        del self.open[alert.key]
        self._pending.discard(alert.key)
        if self._spec.cool_down:
            self._closed_at[alert.key] = at
        return _describe(alert, CLOSED, alert.pending_rows)

    def _is_cooling(self, key: str, at: datetime) -> bool:
        closed_at = self._closed_at.get(key)
        return closed_at is not None and at - closed_at < self._spec.cool_down


def _is_older(over: Raised, alert: OpenAlert) -> bool:
    """Whether rows that come late say that it was over before that happened which has opened the alert."""
    return over.last_at is not None and alert.event_time is not None and over.last_at < alert.event_time


def _describe(alert: OpenAlert, transition: str, rows: int) -> Transition:
    return Transition(
        alert.alert_id, alert.key, transition, rows, alert.text, alert.user, alert.event_time, alert.raised_at
    )


def _identify(name: str, key: str, version: int) -> str:
    """The same for the same alert, however often its opening is computed."""
    return hashlib.sha256(f"{name}\0{key}\0{version}".encode(errors="surrogatepass")).hexdigest()[:16]
