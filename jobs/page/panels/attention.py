"""Panel `attention`: what a person should look at: held groups, failed checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jobs.page.panel import Panel, PanelInput
from jobs.page.stream_health import judge_stream
from resources.settings import load_settings

_MOST = 8


def build(given: PanelInput) -> Mapping[str, Any] | None:
    """Groups that are down or held first, then failures, then warnings; the newest first. None: nothing is known."""
    reading = given.platform.reading
    if reading is None:
        return None
    found = []
    for name, group in reading.groups.items():
        health = judge_stream(group, "", given.now, load_settings().heartbeat_timeout_seconds)
        if health.level == "bad":
            why = group.state.reason if group.state is not None else ""
            found.append(("bad", f"Group {name}: {health.words}", why, health.since))
    failed = [verdict for verdict in reading.verdicts if verdict.severity is not None]
    failed.sort(key=lambda verdict: (verdict.severity != "error", -verdict.given_at))
    for verdict in failed:
        level = "bad" if verdict.severity == "error" else "warn"
        what = f"Check {verdict.check} of {verdict.table}"
        found.append((level, what, "", datetime.fromtimestamp(verdict.given_at, UTC)))
    passed = len(reading.verdicts) - len(failed)
    if not reading.verdicts and all(group.report is None for group in reading.groups.values()):
        return None
    return {"now": given.now, "found": found[:_MOST], "more": len(found) - len(found[:_MOST]), "passed": passed}


PANEL = Panel(name="attention", title="Needs attention", order=10, build=build, reads_platform=True, is_wide=True)
