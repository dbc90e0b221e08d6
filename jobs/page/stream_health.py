"""Says in a word how a stream is, by what the supervisor and the group's host have written last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jobs.watching.platform_reading import GroupReading

Level = Literal["good", "warn", "bad", "unknown"]

# What the supervisor's phases mean to somebody who does not know them.
_PHASES: dict[str, tuple[Level, str]] = {
    "LAUNCHING": ("warn", "starting"),
    "QUEUED": ("warn", "starting"),
    "STARTING": ("warn", "starting"),
    "RUNNING": ("good", "running"),
    "SUSPECT": ("warn", "silent"),
    "STOPPING": ("warn", "stopping"),
    "FAILING": ("bad", "failing, is started again"),
    "BACKOFF": ("bad", "failing, is started again"),
    "HELD_CRASH_LOOP": ("bad", "held: it kept failing"),
    "HELD_OPERATOR": ("warn", "paused"),
    "NEEDS_ATTENTION": ("bad", "waits for a person"),
    "ORPHAN": ("bad", "waits for a person"),
    "DISABLED": ("unknown", "switched off"),
}


@dataclass(frozen=True)
class Health:
    """`words` say it; `since` is when that began, where it is known."""

    level: Level
    words: str
    since: datetime | None = None


def judge_stream(group: GroupReading | None, query: str, now: datetime, silent_after_seconds: float) -> Health:
    """How this query is. A group whose host is silent is down, whatever the supervisor said last.

    That one may be down as well: it is what a platform that was switched off, or killed, looks like.
    """
    if group is None or (group.report is None and group.state is None):
        return Health("unknown", "has never run")
    beat = None if group.report is None else datetime.fromtimestamp(group.report.heartbeat.at, UTC)
    phase = None if group.state is None or group.state.phase is None else group.state.phase.value
    is_silent = beat is None or (now - beat).total_seconds() > silent_after_seconds
    level, words = _PHASES[phase] if phase is not None else ("good", "running")
    if is_silent and phase in (None, "RUNNING", "SUSPECT", "STOPPING"):
        return Health("bad", "down", beat)
    if group.state is not None and query in group.state.paused_streams:
        return Health("warn", "paused alone")
    since = None if group.state is None or level == "good" else datetime.fromtimestamp(group.state.phase_since, UTC)
    return Health(level, words, since)
